"""The mixture of each track: the sum of its true stems, exact where they are 16-bit.

    python mixtures.py REFERENCE OUT

REFERENCE holds <track>/<stem>.wav or .flac; OUT gets <track>.wav in 32-bit float. A mixture that is
newer than its stems is kept.
"""

import argparse
from pathlib import Path

import torch
from script import run

from mgdm_audio.audio.io import read, write
from mgdm_audio.audio.scoring.folders import find_tracks
from mgdm_audio.errors import UserError


def mix(stems: list[Path], out: Path) -> None:
    """Write the sum. Raises UserError where the stems differ in rate, channels or length."""
    parts = [read(path) for path in stems]
    first = parts[0]
    for path, part in zip(stems, parts, strict=True):
        if (part.samples.shape, part.sample_rate) != (first.samples.shape, first.sample_rate):
            raise UserError(f"{path}: differs from {stems[0]} in length, channels or rate")
    total = torch.stack([part.samples for part in parts]).double().sum(0)
    write(out, total.float(), first.sample_rate, "FLOAT")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for track, files in find_tracks(options.reference).items():
        stems, out = list(files.values()), options.out / f"{track}.wav"
        newest = max(path.stat().st_mtime for path in stems)
        if not out.is_file() or out.stat().st_mtime < newest:
            mix(stems, out)


if __name__ == "__main__":
    run(main)
