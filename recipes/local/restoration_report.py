"""Scores of restored images by task and sampler, as a Markdown table.

    python restoration_report.py EXP --name restored --results RESULTS.md

reads EXP/<task>/<sampler>/<image>/report.json, prints the table, and puts it between the lines
<!-- restored --> and <!-- /restored --> of RESULTS.md if it has them.
"""

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from block import load, show
from script import run

from mgdm_audio import tables
from mgdm_audio.errors import UserError
from mgdm_audio.samplers.presets import STANDS_FOR

SCORES = {"lpips": ("LPIPS", ".3f"), "psnr_db": ("PSNR, dB", ".2f"), "ssim": ("SSIM", ".3f")}
ALIGNED = {"psnr_aligned_db": ("aligned PSNR, dB", ".2f"), "ssim_aligned": ("aligned SSIM", ".3f")}


def average(records: list[dict[str, Any]], score: str) -> str:
    """Over images, of the first draw: the mean of several is another estimate. A dash without."""
    values = [r["scores"]["draws"][0].get(score) for r in records if r["scores"]]
    known = [value for value in values if value is not None]
    return (
        format(mean(known), (SCORES | ALIGNED)[score][1])
        if known and len(known) == len(values)
        else "-"
    )


def is_aligned(record: dict[str, Any]) -> bool:
    """Whether an image was found nearer that the task cannot tell from the true one."""
    scores = record["scores"]["draws"][0] if record["scores"] else {}
    return scores.get("psnr_aligned_db") != scores.get("psnr_db")


def table(exp: Path) -> str:
    """Raises UserError where nothing has been restored or a file is damaged."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(exp.glob("*/*/*/report.json")):
        groups.setdefault((path.parts[-4], path.parts[-3]), []).append(
            load(path, "remove its folder")
        )
    if not groups:
        raise UserError(f"{exp}: holds no restored images; run the restoring stage first")
    shown = dict(SCORES)
    if any(is_aligned(record) for records in groups.values() for record in records):
        shown |= ALIGNED
    heads = ["task", "sampler", *(head for head, _ in shown.values()), "images", "s / image",
             "calls", "published row"]  # fmt: skip
    rows = []
    made_with: dict[str, None] = {}  # a set that keeps its order
    options: dict[str, None] = {}
    for (task, sampler), records in groups.items():
        calls = [mean(r["denoiser_calls"][k] for r in records) for k in ("gradient", "forward")]
        cells = [task, sampler, *(average(records, score) for score in shown), str(len(records))]
        cells += [f"{mean(r['seconds'] for r in records):.3g}", f"{calls[0]:.0f} / {calls[1]:.0f}"]
        cells.append(records[0].get("published", "-"))  # none in records of before it was noted
        rows.append(cells)
        for r in records:
            prior = f"{r['prior']} ({next(iter(r['prior_sha256'].values()), '')[:12]})"
            facts = f"{r['draws']} draw{'s' * (r['draws'] > 1)}, seed {r['seed']}, {r['device']}"
            made_with[f"prior {prior}, {facts}, mgdm_audio {r['version']}"] = None
            options |= {f"{task} {k} = {v}": None for k, v in r["task_options"].items()}
    notes = ["Means over the images, of one draw each; calls: of the denoiser for all draws of an "
             "image, with / without gradient. An infinite PSNR shows as a dash.",
             f"Options of tasks: {'; '.join(options) or 'none'}.",
             f"P{STANDS_FOR[1:]}"]  # fmt: skip
    if shown != SCORES:
        notes.append("Aligned: the best over the images that the task cannot tell from the true "
                     "one; see compare in mgdm_audio/images/metrics.py.")  # fmt: skip
    text = tables.table(heads, rows, "ll" + "r" * (len(heads) - 3) + "l")
    return text + "\n\n" + "  \n".join([*notes, *made_with]) + "\n"


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
