"""Real guitars apart from their band: the songs of Debian's fretsonfire-songs packages.

    python local/fretsonfire.py --train OUT/train --test OUT/guitar_test

Each song is a guitar.ogg and a song.ogg, the rest of the band, which may hold other guitars. The
last song by name of each package is a test: OUT/guitar_test/<song>/{guitar,rest,mixture}.wav, whose
mixture is exactly the sum. The guitars of the other songs become training tracks of one minute that
have no other stem: OUT/train/<song>_NN/guitar.flac. Mono, 22,050 Hz, 16 bits.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import soundfile
import torch
from levels import LEVEL, PEAK, active_rms
from recipe import DEBIAN
from tapes import SAMPLE_RATE
from torchaudio.functional import resample

SONGS = Path("usr/share/games/fretsonfire/data/songs")  # one folder a package in there
PIECE = 60  # seconds of a training track
FULL_SCALE = 32767


def split(debian: Path) -> tuple[list[Path], list[Path]]:
    """Folders of the songs to train on and to test on. OSError where there are none."""
    train: list[Path] = []
    test: list[Path] = []
    packages = sorted(path for path in (debian / SONGS).glob("*") if path.is_dir())
    for package in packages:
        songs = sorted(path.parent for path in package.glob("*/guitar.ogg"))
        train += songs[:-1]
        test += songs[-1:]
    if not test:
        raise OSError(f"no songs in {debian / SONGS}; run local/fetch_programs.py")
    return train, test


def read(path: Path) -> np.ndarray:
    """Mono float32 [time] at 22,050 Hz."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(torch.from_numpy(wave.mean(axis=1)), rate, SAMPLE_RATE).numpy()


def write_train(song: Path, out: Path) -> int:
    """The song's guitar in pieces, at the level of Slakh2100's stems; how many there are."""
    guitar = read(song / "guitar.ogg")
    guitar *= min(LEVEL / active_rms(guitar), PEAK / float(np.abs(guitar).max()))
    step = PIECE * SAMPLE_RATE
    pieces = [guitar[first : first + step] for first in range(0, len(guitar) - step // 2, step)]
    for k, piece in enumerate(pieces):
        _write(out / f"{name(song)}_{k:02d}" / "guitar.flac", np.rint(piece * FULL_SCALE))
    return len(pieces)


def write_test(song: Path, out: Path) -> None:
    """Guitar, rest and their sum, as loud as the sum may be."""
    guitar, rest = read(song / "guitar.ogg"), read(song / "song.ogg")
    length = min(len(guitar), len(rest))
    guitar, rest = guitar[:length], rest[:length]
    gain = PEAK * FULL_SCALE / max(float(np.abs(w).max()) for w in (guitar, rest, guitar + rest))
    stems = {"guitar": np.rint(guitar * gain), "rest": np.rint(rest * gain)}
    for stem, samples in (stems | {"mixture": stems["guitar"] + stems["rest"]}).items():
        _write(out / name(song) / f"{stem}.wav", samples)


def name(song: Path) -> str:
    return re.sub(r"\W+", "_", f"{song.parent.name}_{song.name}".lower())


def _write(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    soundfile.write(partial, samples.astype(np.int16), SAMPLE_RATE, subtype="PCM_16")
    partial.rename(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--debian", type=Path, default=DEBIAN)
    options = parser.parse_args(arguments)
    try:
        train, test = split(options.debian)
    except OSError as error:
        raise SystemExit(f"error: {error}") from None
    for song in train:
        print(f"{name(song)}: {write_train(song, options.train)} training tracks", flush=True)
    for song in test:
        write_test(song, options.test)
        print(f"{name(song)}: a test", flush=True)


if __name__ == "__main__":
    main()
