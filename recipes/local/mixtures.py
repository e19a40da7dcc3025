"""The mixture of each track: the sum of its true stems, exact where they are 16-bit.

    python mixtures.py REFERENCE OUT

REFERENCE holds <track>/<stem>.wav or the like; OUT gets <track>.wav in 32-bit float. A mixture of
stems of the same names, sizes and times is kept, and so is one that would be the same again:
whatever was made of it stays valid.
"""

import argparse
import json
from pathlib import Path

import torch
from script import run

from mgdm_audio.atomic import write_text
from mgdm_audio.audio.io import read, write
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.folders import find_tracks


def mix(stems: list[Path], out: Path) -> None:
    """Write the sum, unless ``out`` is it already.

    Raises UserError where the stems differ in rate, channels or length.
    """
    parts = [read(path, damaged="refuse") for path in stems]
    first = parts[0]
    for path, part in zip(stems, parts, strict=True):
        if (part.samples.shape, part.sample_rate) != (first.samples.shape, first.sample_rate):
            raise UserError(f"{path}: differs from {stems[0]} in length, channels or rate")
    total = torch.stack([part.samples for part in parts]).double().sum(0).float()
    if out.is_file():
        there = read(out, damaged="refuse")
        if there.sample_rate == first.sample_rate and torch.equal(there.samples, total):
            return
    write(out, total, first.sample_rate, "FLOAT")


def made_of(files: dict[str, Path]) -> str:
    """What tells these stems from others without reading them."""
    found = {stem: path.stat() for stem, path in files.items()}
    return json.dumps({stem: [stat.st_size, stat.st_mtime_ns] for stem, stat in found.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for track, files in find_tracks(options.reference).items():
        out, record = options.out / f"{track}.wav", options.out / f".{track}.json"
        wanted = made_of(files)
        if not out.is_file() or not record.is_file() or record.read_text() != wanted:
            mix(list(files.values()), out)
            write_text(record, wanted)


if __name__ == "__main__":
    run(main)
