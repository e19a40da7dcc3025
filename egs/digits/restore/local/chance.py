"""What aligned scores are worth: those of other digits, which restore nothing.

    python chance.py IMAGES

compares every image of the folder, whose files are named <digit>_<number>.png, with the next one of
the same digit and with that of the next digit, and prints the means of the scores that phase
retrieval has, with half of their 95 % interval.
"""

import argparse
from itertools import groupby
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.images.io import read_image
from mgdm_audio.images.metrics import compare
from mgdm_audio.images.tasks import build_operator

SHAPE = (1, 28, 28)
Pairs = list[tuple[Tensor, Tensor]]


def pairs(folder: Path) -> dict[str, Pairs]:
    """Of every image, (another one, itself): of the same digit, and of the next one's."""
    files = sorted(folder.glob("?_*.png"))
    kinds = [list(own) for _, own in groupby(files, lambda file: file.name[0])]
    if len(kinds) < 2 or min(map(len, kinds)) < 2:
        raise UserError(f"{folder}: give a folder with several images of several digits")
    x = [[read_image(file, SHAPE).x for file in own] for own in kinds]
    found: dict[str, Pairs] = {"another of the same digit": [], "one of the next digit": []}
    for i, own in enumerate(x):
        following = x[(i + 1) % len(x)]
        for j, image in enumerate(own):
            found["another of the same digit"].append((own[(j + 1) % len(own)], image))
            found["one of the next digit"].append((following[j % len(following)], image))
    return found


def table(folder: Path) -> list[str]:
    operator = build_operator("phase_retrieval", SHAPE, generator=torch.Generator())
    lines = []
    for name, both in pairs(folder).items():
        scores = [compare(x, reference, symmetries=operator.symmetries) for x, reference in both]
        cells = []
        for key in ("psnr_db", "psnr_aligned_db", "ssim", "ssim_aligned"):
            values = [score[key] for score in scores]
            half = 1.96 * stdev(values) / sqrt(len(values))
            cells.append(f"{key} {mean(values):.3f} ± {half:.3f}")
        lines.append(f"{name}: {', '.join(cells)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", type=Path)
    try:
        print("\n".join(table(parser.parse_args().images)))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
