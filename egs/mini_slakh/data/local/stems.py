"""Tracks in the form of Slakh2100 -> folders of stems, for training and scoring.

    python local/stems.py out/train out/stems/train --nj 2

writes OUT/<track>/<stem>.wav for the stems bass, drums, guitar and piano: the exact sum of the
track's parts of that class, 16-bit unless the sum needs more. A finished track is kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from tqdm import tqdm

STEMS = {"Bass": "bass", "Drums": "drums", "Guitar": "guitar", "Piano": "piano"}  # by inst_class


def rendered_parts(track: Path) -> list[tuple[str, Path]]:
    """(stem, file) of every part that belongs to one of the four stems.

    In Slakh2100 a part may be listed and not rendered; files are always in stems/, whatever
    audio_dir says.
    """
    meta: dict[str, Any] = yaml.safe_load((track / "metadata.yaml").read_text(encoding="utf-8"))
    return [
        (STEMS[part["inst_class"]], track / "stems" / f"{name}.flac")
        for name, part in meta["stems"].items()
        if part["inst_class"] in STEMS and part.get("audio_rendered", True)
    ]


def write_stems(track: Path, *, out: Path) -> None:
    """Sum the parts of one track, unless it is there already."""
    target, room = out / track.name, out / f".{track.name}.partial"
    if target.is_dir():
        return
    sums: dict[str, np.ndarray] = {}
    rates = set()
    for stem, path in rendered_parts(track):
        samples, rate = soundfile.read(path, dtype="int16")
        rates.add(rate)
        sums[stem] = sums.get(stem, np.int32(0)) + samples.astype(np.int32)
    if len(rates) != 1:
        raise SystemExit(f"error: {track}: no part of the four stems, or parts of different rates")
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    for stem, samples in sums.items():
        _write(room / f"{stem}.wav", samples, rates.copy().pop())
    room.rename(target)


def _write(path: Path, samples: np.ndarray, rate: int) -> None:
    """samples: [time] int32, in 16-bit steps."""
    if np.abs(samples).max(initial=0) < 2**15:
        soundfile.write(path, samples.astype(np.int16), rate, subtype="PCM_16")
    else:  # past 16-bit full scale: the same value, as floats, which do not clip
        soundfile.write(path, (samples / 2**15).astype(np.float32), rate, subtype="FLOAT")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tracks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    options = parser.parse_args()
    tracks = sorted(path.parent for path in options.tracks.glob("*/metadata.yaml"))
    if not tracks:
        raise SystemExit(f"error: {options.tracks}: holds no <track>/metadata.yaml")
    options.out.mkdir(parents=True, exist_ok=True)
    job = partial(write_stems, out=options.out)
    with multiprocessing.get_context("spawn").Pool(options.nj) as pool:
        done = pool.imap_unordered(job, tracks)
        for _ in tqdm(done, options.out.name, len(tracks), disable=not sys.stderr.isatty()):
            pass


if __name__ == "__main__":
    main()
