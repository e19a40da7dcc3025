"""The tables of a benchmark, printed and put into a page of results.

    python bench_report.py EXP/NAME --results RESULTS.md

reads EXP/NAME/table.md and puts it between the lines <!-- NAME --> and <!-- /NAME --> of RESULTS.md
if it has them.
"""

import argparse
from pathlib import Path

from block import show
from script import run

from mgdm_audio.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("exp", type=Path)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    table = options.exp / "table.md"
    if not table.is_file():
        raise UserError(f"{table}: missing; run the stage that makes it first")
    text = table.read_text(encoding="utf-8")
    show(text, options.results, options.exp.name)


if __name__ == "__main__":
    run(main)
