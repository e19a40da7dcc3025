"""Tables of a suite of restored images: every task by every system, and what it cost.

    python restore_bench_report.py SUITE.toml EXP --results RESULTS.md

reads EXP/<task>/<system>.json, prints the tables, and puts them between the lines <!-- suite -->
and <!-- /suite --> of RESULTS.md if it has them; the name is that of the suite's file.

    python restore_bench_report.py SUITE.toml EXP --compare mgdm-r4 mgdm

prints by how much the first system is ahead of the second, image by image, in all tasks of both.
"""

import argparse
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from block import load, show
from restore_bench import Suite, preset_for, read_suite
from script import run

from mgdm_audio import tables
from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError
from mgdm_audio.images.metrics import NEAREST
from mgdm_audio.samplers.presets import NO_ROW

SCORES = {  # key: head, format, 1 if more is better, key modulo what the task cannot tell apart
    "psnr_db": ("PSNR, dB", ".2f", 1, "psnr_aligned_db"),
    "ssim": ("SSIM", ".3f", 1, "ssim_aligned"),
    "lpips": ("LPIPS", ".3f", -1, "lpips"),
}
Records = dict[tuple[str, str], dict[str, Any]]  # (task, system) -> what was written of it


def interval(values: list[float]) -> float:
    """Half of the 95 % interval of their mean."""
    return 1.96 * stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0


def scores(record: dict[str, Any], score: str) -> list[float]:
    """One for each image, in order of their names; empty where one has none (an infinite PSNR)."""
    values = [row.get(score) for _, row in sorted(record["scores"].items())]
    return [] if None in values else values


def leaders(records: Records, task: str, systems: list[str], key: str, sign: int = 1) -> set[str]:
    """The first, and all whose images are no worse than its by the interval of the difference.

    ``key`` of the scores; ``sign`` 1 if more of it is better, else -1.
    """
    found = {s: scores(records[task, s], key) for s in systems if (task, s) in records}
    found = {s: [sign * v for v in values] for s, values in found.items() if values}
    if not found:
        return set()
    first = max(found.values(), key=mean)
    behind = {s: [a - b for a, b in zip(first, v, strict=True)] for s, v in found.items()}
    return {s for s, d in behind.items() if mean(d) <= interval(d)}


def columns(records: Records, tasks: list[str], score: str) -> list[tuple[str, str, str]]:
    """(task, key, head) of every column: of a task that cannot tell some images apart, two."""
    aligned, found = SCORES[score][3], []
    for task in tasks:
        found.append((task, score, task.replace("_", " ")))
        own = [record for (of, _), record in records.items() if of == task]
        if any(scores(record, aligned) != scores(record, score) for record in own):
            found.append((task, aligned, f"{task.replace('_', ' ')}, aligned"))
    return found


def score_table(records: Records, tasks: list[str], systems: list[str], score: str) -> list[str]:
    head, form, sign, _ = SCORES[score]
    shown = columns(records, tasks, score)
    rows = []
    leading = {(t, key): leaders(records, t, systems, key, sign) for t, key, _ in shown}
    counted = {task: leading[task, key] for task, key, _ in shown}  # of two columns, the second
    for system in systems:
        cells = [system]
        for task, key, _ in shown:
            values = scores(records[task, system], key) if (task, system) in records else []
            cell = f"{mean(values):{form}} ± {interval(values):{form}}" if values else "-"
            cells.append(f"**{cell}**" if system in leading[task, key] else cell)
        taken = [task for task in tasks if (task, system) in records]
        count = sum(system in first for first in counted.values())
        rows.append([*cells, f"{count} of {len(taken)}"])
    heads = ["", *(title for *_, title in shown), "leads"]
    return [f"{head}:", "", *tables.table(heads, rows).splitlines(), ""]


def differences(records: Records, tasks: list[str], first: str, second: str) -> list[str]:
    """By how much ``first`` is ahead of ``second``: a line for every task of both and score."""
    lines = []
    for task in tasks:
        pair = [records.get((task, system)) for system in (first, second)]
        for score, (head, form, _, _) in SCORES.items():
            for _, key, title in columns(records, [task], score):
                a, b = (scores(record, key) if record else [] for record in pair)
                if a and b:
                    ahead = [x - y for x, y in zip(a, b, strict=True)]
                    said = f"{mean(ahead):+{form}} ± {interval(ahead):{form}}"
                    lines.append(f"{title}: {head} of {first} less that of {second}: {said}")
    return lines


def cost_table(records: Records, tasks: list[str], systems: list[str]) -> list[str]:
    rows = []
    for system in systems:
        own = [records[task, system] for task in tasks if (task, system) in records]
        # Tasks differ from system to system, so that means over them would not compare.
        cells = [system, span([r["cpu_seconds"] / len(r["scores"]) for r in own], ".3f")]
        cells += [span([r["denoiser_calls"][k] for r in own]) for k in ("forward", "gradient")]
        rows.append(cells)
    heads = ["", "s / image", "calls", "with a gradient"]
    return [*tables.table(heads, rows).splitlines(), ""]


def span(values: list[float], form: str = "d") -> str:
    """From the least to the largest, or what all are."""
    least, largest = format(min(values), form), format(max(values), form)
    return least if least == largest else f"{least} to {largest}"


def published(suite: Suite, records: Records) -> str:
    """Returns the rows that have the settings of published ones, at which tasks."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for task, system in records:
        row = preset_for(suite.systems[system], task).published
        if row != NO_ROW:
            tasks.setdefault((system, row), []).append(task.replace("_", " "))
    found = [f"{system} for {row} ({', '.join(at)})" for (system, row), at in tasks.items()]
    if not found:
        return "No row has the settings of a published one."
    which = "the MGDM paper (arXiv 2502.03332), or of the one named"
    return f"Rows with the settings of {which}: {'; '.join(found)}. No other row has them."


def read(suite: Suite, exp: Path) -> Records:
    """Raises UserError where nothing is restored, a file is damaged or rows do not compare."""
    records: Records = {}
    for task in suite.tasks:
        for system in suite.systems:
            path = exp / task / f"{system}.json"
            if path.is_file():
                records[task, system] = load(path)
    if not records:
        raise UserError(f"{exp}: holds no restored images; run the restoring stage first")
    some = next(iter(records.values()))
    for (task, system), record in records.items():
        if record["images"] != some["images"]:
            raise UserError(f"{exp / task / system}.json: is of other images than the first row; "
                            "run the restoring stage again, for all tasks and systems")  # fmt: skip
    return records


def report(suite_file: Path, exp: Path) -> str:
    """Raises UserError as ``read`` does."""
    suite = read_suite(suite_file)
    records = read(suite, exp)
    tasks = [t for t in suite.tasks if any(task == t for task, _ in records)]
    systems = [s for s in suite.systems if any(system == s for _, system in records)]
    some = next(iter(records.values()))
    lines = []
    for score in SCORES:
        if any(scores(record, score) for record in records.values()):
            lines += score_table(records, tasks, systems, score)
    lines += cost_table(records, tasks, systems)
    priors = {r["prior"]: next(iter(r["prior_sha256"].values()))[:12] for r in records.values()}
    options = "; ".join(
        f"{task.replace('_', ' ')} {', '.join(f'{k} = {v}' for k, v in values.items())}"
        for task, values in suite.tasks.items() if values
    )  # fmt: skip
    lines.append(
        f"{len(some['scores'])} images, one restoration each, means ± half of the 95 % interval; "
        "bold: the first, and all whose difference from it, image by image, is within its 95 % "
        "interval (what leads counts these, a task once). Aligned: the best over the images that "
        f"the task cannot tell from the true one, SSIM over the {NEAREST} of them nearest by PSNR; "
        "leads goes by it. A dash: the sampler cannot take the task, or was not asked to. Seconds "
        "are of one core, from the quickest task to the slowest; calls are those of the denoiser "
        "for an image, without and with a gradient. "
        f"Options of tasks: {options or 'none'}. "
        f"Priors {', '.join(f'{name} ({sha})' for name, sha in priors.items())}; "
        f"sigma_y = {some['noise_std']:g}; seed {some['seed']}; mgdm_audio {some['version']}, "
        f"torch {some['torch']}. {published(suite, records)}"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("suite", type=Path)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--compare", nargs=2, metavar="SYSTEM", help="print differences alone")
    options = parser.parse_args()
    if options.compare:
        suite = read_suite(options.suite)
        for name in options.compare:
            if name not in suite.systems:
                raise UserError(f"{options.suite}: holds no {name!r}{nearest(name, suite.systems)}")
        lines = differences(read(suite, options.exp), list(suite.tasks), *options.compare)
        print("\n".join(lines) or f"{' and '.join(options.compare)}: no task of both")
        return
    show(report(options.suite, options.exp), options.results, options.suite.stem)


if __name__ == "__main__":
    run(main)
