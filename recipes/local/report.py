"""Scores and costs of all systems on one set of tracks, as a Markdown table.

    python report.py EXP --name test --results RESULTS.md

reads EXP/scores/<system>.json and EXP/estimates/<system>/<track>/separation.json, prints the table,
and puts it between the lines <!-- test --> and <!-- /test --> of RESULTS.md if it has them.
"""

import argparse
from pathlib import Path
from typing import Any

from block import load, show
from script import run

from mgdm_audio import tables
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.benchmark.table import estimate_of
from mgdm_audio.samplers.presets import NO_ROW, STANDS_FOR
from mgdm_audio.separation.segments import starts

BASELINES = {  # the directory's name: the row's; they come first
    "mixture": "mixture, shared equally",
    "wiener-split": "static Wiener split",
    "oracle-mask": "oracle ratio mask",
}


def segments(record: dict[str, Any]) -> int:
    """Into how many segments a track was cut."""
    rate = record["sample_rate"]
    length = round(record["segment_seconds"] * rate)
    return len(starts(record["samples"], length, round(record["overlap_seconds"] * rate)))


def costs(records: list[dict[str, Any]]) -> list[str]:
    """Seconds per second of audio, what is scored, calls a segment; dashes for baselines."""
    audio = sum(r["samples"] / r["sample_rate"] for r in records)
    speed = f"{sum(r['seconds'] for r in records) / audio:.3g}"
    calls = [r["denoiser_calls"] for r in records if "denoiser_calls" in r]
    if not calls:
        return [speed, "-", "-"]
    count = sum(segments(r) for r in records)
    with_gradient, without = (sum(c[k] for c in calls) / count for k in ("gradient", "forward"))
    estimate = estimate_of(records[0]["draws"], records[0]["options"])
    return [speed, estimate, f"{with_gradient:.0f} / {without:.0f}"]


def stands_for(records: list[dict[str, Any]]) -> str:
    """The published row; a dash where the records are of before it was noted."""
    sampled = [r for r in records if "denoiser_calls" in r]  # and no baseline
    return sampled[0].get("published", "-") if sampled else NO_ROW


def row(system: str, scores: dict[str, Any], stems: list[str], others: list[str]) -> list[str]:
    """The cells of a system."""
    cells = [BASELINES.get(system, system)]
    for stem in stems:
        mean, interval = scores["si_sdri"].get(stem), scores["interval_95"].get(stem)
        spread = f" ± {(interval[1] - interval[0]) / 2:.2f}" if interval else ""
        cells.append("-" if mean is None else f"{mean:.2f}{spread}")
    return cells + others


def table(exp: Path) -> str:
    """Raises UserError where nothing has been scored or a file is damaged."""
    found = {path.stem: load(path)["summary"] for path in sorted((exp / "scores").glob("*.json"))}
    if not found:
        raise UserError(f"{exp / 'scores'}: holds no scores; run the scoring stage first")
    order = [name for name in BASELINES if name in found]
    order += [name for name in found if name not in BASELINES]
    stems = list(next(iter(found.values()))["si_sdri"])
    heads = ["SI-SDRi, dB", *stems, "s / s", "estimate", "calls", "published row"]
    rows = []
    made_with: dict[str, None] = {}  # a set that keeps its order
    for name in order:
        records = [load(p) for p in sorted((exp / "estimates" / name).glob("*/separation.json"))]
        rows.append(row(name, found[name], stems, [*costs(records), stands_for(records)]))
        for record in (r for r in records if "prior" in r):
            prior = f"{record['prior']} ({record['prior_sha256'][:12]})"
            made_with[f"prior {prior}, {record['device']}, mgdm_audio {record['version']}"] = None
    count = found[order[0]]["n"]
    interval = " ± half of its 95 % interval" if count > 1 else ""
    notes = [
        f"Mean over {count} track{'s' * (count > 1)}{interval}; s / s: seconds of computing a "
        "second of audio; estimate: one draw, the mean by one call of the network, or the mean of "
        "several draws; calls: of the denoiser, for a segment and all draws at once, "
        f" with / without gradient; {STANDS_FOR}",
        *made_with,
    ]
    text = tables.table(heads, rows, "l" + "r" * (len(heads) - 2) + "l")
    return text + "\n\n" + "  \n".join(notes) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("exp", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    text = table(options.exp)
    show(text, options.results, options.name)


if __name__ == "__main__":
    run(main)
