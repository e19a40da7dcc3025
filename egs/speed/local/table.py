"""The table and the plot of what ``measure.py`` found.

python table.py EXP [--results RESULTS.md]
"""

import argparse
import json
import os
import platform
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from block import show

CELL = ("system", "seconds", "channels", "threads")
BUSY = 0.05  # of the processors: with more for other programs, the seconds are not to be cited
Cells = dict[tuple[Any, ...], dict[str, Any]]


def cells(times: Path) -> Cells:
    """Returns (system, seconds, channels, threads) -> the medians, or "status" without figures."""
    rows = defaultdict(list)
    for line in times.read_text().splitlines():
        row = json.loads(line)
        rows[tuple(row[key] for key in CELL)].append(row)
    found: Cells = {}
    for cell, each in rows.items():
        good = [row for row in each if row["status"] == "ok"]
        names = ("wall", "cpu", "peak_mib", "load", "others")
        medians = {name: statistics.median(row[name] for row in good) for name in names if good}
        found[cell] = {"status": (good or each)[-1]["status"], "rows": good, **medians}
    return found


def table(found: Cells) -> str:
    """Returns Markdown: a row a system, number of channels, number of threads and length."""
    head = "| system | channels | threads | sound, s | time, s | of htdemucs' "
    lines = [f"{head}| CPU, s a s | peak, MiB |", "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for (system, seconds, channels, threads), cell in found.items():
        row = f"| {system} | {channels} | {threads} | {seconds} "
        if cell["status"] != "ok":
            lines.append(f"{row}| {cell['status']} | | | |")
            continue
        peer = found.get(("htdemucs", seconds, channels, threads), {}).get("wall")
        share = f"{cell['wall'] / peer:.2f}" if peer else ""
        lines.append(
            f"{row}| {cell['wall']:.1f} | {share} | {cell['cpu'] / seconds:.3f} "
            f"| {cell['peak_mib']:.0f} |"
        )
    return "\n".join(lines)


def circumstances(found: Cells) -> str:
    """Returns the machine, its load and the commits, in sentences."""
    rows = [row for cell in found.values() for row in cell["rows"]]
    names = re.findall(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.M)
    commits = ", ".join(sorted({row["commit"] for row in rows})) or "unknown"
    machine = (names or [platform.machine()])[0]
    text = f"Commit {commits}, {os.cpu_count()} cores of {machine}."
    if not rows:
        return text
    others = max(row["others"] for row in rows)
    text += f" The load average before the first timing was {rows[0]['load']:.2f}; other programs"
    text += f" took at most {100 * others:.0f} % of the processors during a timing."
    if others > BUSY:
        text += " **The machine was busy: the seconds are too large, and not to be cited.**"
    return text


def plot(found: Cells, path: Path) -> None:
    """Draws time and memory over the length, in stereo with the most threads."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "speed"  # equal figures give equal files
    from matplotlib import pyplot

    good = {cell: row for cell, row in found.items() if row["status"] == "ok"}
    channels, threads = (max((cell[i] for cell in good), default=0) for i in (2, 3))
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for system in dict.fromkeys(cell[0] for cell in good if "files" not in cell[0]):
        chosen = {c[1]: r for c, r in good.items() if (c[0], *c[2:]) == (system, channels, threads)}
        lengths = sorted(chosen)
        each = [chosen[length]["wall"] / length for length in lengths]
        axes[0].plot(lengths, each, "o-", label=system)
        axes[1].plot(lengths, [chosen[length]["peak_mib"] for length in lengths], "o-")
    names = ("time a second of sound, s", "peak memory, MiB")
    for axis, name in zip(axes, names, strict=True):
        axis.set(xscale="log", ylim=(0, None), xlabel="length of the sound, s", ylabel=name)
    if axes[0].lines:
        axes[0].legend(fontsize="small")
    figure.suptitle(f"{channels} channels, {threads} threads")
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exp", type=Path)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    found = cells(options.exp / "times.jsonl")
    picture = (options.results.parent if options.results else options.exp) / "speed.svg"
    plot(found, picture)
    text = f"{circumstances(found)}\n\n{table(found)}\n\n![time and memory]({picture.name})"
    show(text, options.results, "speed")


if __name__ == "__main__":
    main()
