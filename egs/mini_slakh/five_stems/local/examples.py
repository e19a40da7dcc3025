"""Make examples for [one_call], whose stems are another separator's or the true ones.

    python local/examples.py mixtures SONGS OUT --count 80      # OUT/<name>.flac, 24 s each
    mgdm-audio separate OUT -o TEACHER --format flac
    python local/examples.py join TEACHER SONGS EXAMPLES

A mixture is the sum of the four stems of a rendered song, or 24 s of a real song of Debian's
fretsonfire-songs packages that is no test. ``join`` makes EXAMPLES/<name> of links to the
separated stems, in every second one with the fifth stem of a rendered song that sounds there, and
links to all SONGS, whose stems are the true ones.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[2] / "data" / "local"))

import fretsonfire
from levels import active_rms
from recipe import DEBIAN

STEMS, FIFTH = ("bass", "drums", "guitar", "piano"), "other"
RATE, SECONDS = 22050, 24
PLACES = 4  # of a real song
LEVEL = 0.1  # rms of a real mixture, about that of the rendered ones
SOUNDS = 0.01  # rms of a fifth stem that is added


def rendered(songs: Path, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields ``count`` songs of five stems: a name and the middle of the others' sum: [time]."""
    for song in _of_five(songs)[:count]:
        start = max(0, soundfile.info(song / "bass.flac").frames - SECONDS * RATE) // 2
        yield song.name, sum(_read(song / f"{stem}.flac", start) for stem in STEMS)


def real(debian: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields a name for each place in the real songs to train on, and the mixture there: [time]."""
    for song in fretsonfire.split(debian)[0]:
        guitar, rest = (fretsonfire.read(song / f"{part}.ogg") for part in ("guitar", "song"))
        length = min(len(guitar), len(rest))
        mixture = guitar[:length] + rest[:length]
        mixture = mixture * LEVEL / active_rms(mixture)
        for place in range(PLACES):
            start = int((place + 0.5) * length / PLACES) - SECONDS * RATE // 2
            if 0 <= start <= length - SECONDS * RATE:
                yield f"{fretsonfire.name(song)}_{place}", mixture[start : start + SECONDS * RATE]


def write_mixtures(songs: Path, out: Path, debian: Path, count: int) -> int:
    """Writes the mixtures that ``out`` lacks, of ``count`` songs; returns how many it has then."""
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for name, mixture in itertools.chain(rendered(songs, count), real(debian)):
        written += 1
        if not (out / f"{name}.flac").exists():
            # 24 bits and no clipping: a sum of stems may exceed full scale.
            mixture = mixture * min(1.0, 0.99 / max(float(np.abs(mixture).max()), 1e-9))
            partial = out / f".{name}.flac"
            soundfile.write(partial, mixture, RATE, subtype="PCM_24")
            partial.rename(out / f"{name}.flac")
    return written


def join(teacher: Path, songs: Path, out: Path, seed: int = 0) -> int:
    """Makes the folder of examples; returns how many songs ``out`` has then."""
    out.mkdir(parents=True, exist_ok=True)
    for song in _of_five(songs):
        _link(song, out / song.name)
    places = _sounding(songs)
    order = np.random.default_rng(seed).permutation(len(places))
    taught = sorted(path for path in teacher.iterdir() if (path / "bass.flac").is_file())
    for i, track in enumerate(taught):
        folder = out / f"taught_{track.name}"
        folder.mkdir(exist_ok=True)
        for stem in STEMS:
            _link(track / f"{stem}.flac", folder / f"{stem}.flac")
        if i % 2 == 0 and places:
            path, start = places[order[i // 2 % len(places)]]
            length = soundfile.info(track / "bass.flac").frames
            fifth = np.pad(_read(path, start), (0, SECONDS * RATE))[:length]
            soundfile.write(folder / f"{FIFTH}.flac", fifth, RATE, subtype="PCM_16")
    return len([*out.iterdir()])


def _of_five(songs: Path) -> list[Path]:
    return sorted(path.parent for path in songs.glob(f"*/{FIFTH}.flac"))


def _sounding(songs: Path) -> list[tuple[Path, int]]:
    """Returns files of the fifth stem and the samples from which it sounds for ``SECONDS``."""
    found = []
    for song in _of_five(songs):
        wave, _ = soundfile.read(song / f"{FIFTH}.flac", dtype="float32")
        for start in range(0, len(wave) - SECONDS * RATE + 1, SECONDS * RATE // 2):
            if np.sqrt(np.square(wave[start : start + SECONDS * RATE]).mean()) > SOUNDS:
                found.append((song / f"{FIFTH}.flac", start))
    return found


def _read(path: Path, start: int) -> np.ndarray:
    wave, _ = soundfile.read(path, dtype="float32", start=start, frames=SECONDS * RATE)
    return wave


def _link(target: Path, link: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target.resolve())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    mixtures = commands.add_parser("mixtures")
    mixtures.add_argument("songs", type=Path)
    mixtures.add_argument("out", type=Path)
    mixtures.add_argument("--count", type=int, required=True, help="songs that are mixed")
    mixtures.add_argument("--debian", type=Path, default=DEBIAN)
    joined = commands.add_parser("join")
    joined.add_argument("teacher", type=Path)
    joined.add_argument("songs", type=Path)
    joined.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "mixtures":
        count = write_mixtures(options.songs, options.out, options.debian, options.count)
        print(f"{count} mixtures")
    else:
        print(f"{join(options.teacher, options.songs, options.out)} songs")


if __name__ == "__main__":
    main()
