"""How well a trained prior denoises its validation tracks, as a Markdown table.

    python training_report.py EXP --results RESULTS.md

reads the last validation in EXP/log.jsonl and the stems' names in EXP/prior, prints a table, and
puts it between the lines <!-- validation --> and <!-- /validation --> of RESULTS.md if it has them.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from block import load, show
from script import run

from mgdm_audio import tables
from mgdm_audio.errors import UserError

MODES = {"prior": "x alone", "given": "x and the mixture"}


def last_validation(log: Path) -> dict[str, Any]:
    """The log's last record with a validation. Raises UserError where there is none."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    for line in reversed(lines):
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:
            continue  # cut short when a run was stopped
        if "validation" in record:
            return record
    raise UserError(f"{log}: holds no validation; train first, with a validation folder")


def table(record: dict[str, Any], stems: Sequence[str]) -> str:
    """Rows for the network's uses, all stems and each; a column for each noise level."""
    values = record["validation"]
    sigmas = list(dict.fromkeys(key.partition("@")[2] for key in values))
    lines = []
    for mode, label in MODES.items():
        if not any(key.startswith(mode) for key in values):
            continue  # of one stem there is no mixture
        found = [values[f"{mode}@{s}"] for s in sigmas]
        rows = {label: [f["all"] for f in found]}
        for k, stem in enumerate(stems):
            rows[f"{label}: {stem}"] = [f["sources"][k] for f in found]
        for name, errors in rows.items():
            lines.append([name, *("-" if e is None else f"{e:.2f}" for e in errors)])
    note = f"Denoising error over signal energy in dB, at step {record['step']}."
    heads = ["input of the network", *(f"sigma = {s}" for s in sigmas)]
    return f"{tables.table(heads, lines)}\n\n{note}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("exp", type=Path)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    record = last_validation(options.exp / "log.jsonl")
    text = table(record, load(options.exp / "prior/config.json", "train first")["stems"])
    show(text, options.results, "validation")


if __name__ == "__main__":
    run(main)
