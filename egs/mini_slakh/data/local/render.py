"""Compose songs and render them into the folder form of Slakh2100.

    python local/render.py OUT --split train --first 0 --count 300 --seconds 60 --nj 2

writes OUT/<split>/TrackXXXXX/{mix.flac, stems/SXX.flac, metadata.yaml, all_src.mid}, where XXXXX is
the song's seed. A track depends on its seed, the seconds and the fonts alone, so the output is the
same for every --nj. A finished track is kept: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import uuid
from collections import deque
from functools import cache, partial
from io import BytesIO
from pathlib import Path

import compose
import levels
import metadata
import midi
import midirenderer
import numpy as np
import soundfile
import soundfonts
import torch
from score import Part
from torchaudio.functional import resample
from tqdm import tqdm

SAMPLE_RATE = 22050


def render_track(number: int, *, folder: Path, seconds: float, fonts: soundfonts.Fonts) -> Path:
    """Compose and render song `number` into folder/TrackXXXXX, unless it is there already."""
    track = folder / f"Track{number:05d}"
    if track.is_dir():
        return track
    song = compose.compose(number, seconds)
    rng = random.Random(f"render {number}")
    picked = [
        rng.choice(fonts.drums if part.stem == "drums" else fonts.tuned) for part in song.parts
    ]
    waves = [
        _render(part, font, seconds, rng) for part, font in zip(song.parts, picked, strict=True)
    ]
    stems, gain = levels.set_levels([part.stem for part in song.parts], waves, rng)

    partial_track = folder / f".{track.name}.partial"
    shutil.rmtree(partial_track, ignore_errors=True)
    (partial_track / "stems").mkdir(parents=True)
    for k, stem in enumerate(stems):
        _write(partial_track / "stems" / f"S{k:02d}.flac", stem)
    mix = sum((stem.astype(np.int32) for stem in stems), np.int32(0))
    _write(partial_track / "mix.flac", np.asarray(mix, dtype=np.int16))
    (partial_track / "all_src.mid").write_bytes(midi.song_bytes(song))
    identifier = uuid.uuid5(uuid.NAMESPACE_OID, f"mini_slakh {number}").hex
    text = metadata.dump(song, identifier, gain, [font.stem for font in picked])
    (partial_track / "metadata.yaml").write_text(text, encoding="utf-8")
    partial_track.rename(track)
    return track


def _render(part: Part, font: Path, seconds: float, rng: random.Random) -> np.ndarray:
    """One part as mono float32 [time] at the font's own level, with random reverb and chorus."""
    reverb = rng.randrange(0, 100) if rng.random() < 0.7 else 0
    chorus = rng.randrange(0, 60) if part.stem in ("guitar", "piano") and rng.random() < 0.25 else 0
    part = soundfonts.fit_part(part, font.name)
    data = midi.part_bytes(part, seconds, reverb=reverb, chorus=chorus)
    wave, rate = soundfile.read(
        BytesIO(midirenderer.render_wave_from(_font_bytes(font), data)), dtype="float32"
    )
    mono = torch.from_numpy(wave.mean(axis=1))
    out = resample(mono, rate, SAMPLE_RATE).numpy()
    length = round(seconds * SAMPLE_RATE)
    return np.pad(out[:length], (0, max(0, length - len(out))))


@cache
def _font_bytes(font: Path) -> bytes:
    return soundfonts.load(font)


def _write(path: Path, samples: np.ndarray) -> None:
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")


def keep_settings(path: Path, settings: dict[str, object]) -> None:
    """Write the settings beside the tracks. SystemExit where tracks were made with other ones."""
    text = json.dumps(settings, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise SystemExit(
            f"error: {path} records other settings; remove its tracks or choose another folder"
        )
    path.write_text(text, encoding="utf-8")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=soundfonts.SPLITS, required=True)
    parser.add_argument("--first", type=int, default=0, help="first song of the split")
    parser.add_argument("--count", type=int, required=True, help="number of songs")
    parser.add_argument("--seconds", type=float, default=60.0, help="at least 4")
    parser.add_argument("--soundfont-folder", type=Path, default=Path("soundfonts"))
    parser.add_argument(
        "--soundfont", type=Path, action="append", help="a General MIDI .sf2 file; repeatable"
    )
    parser.add_argument(
        "--drum-soundfont", type=Path, action="append", help="fonts for drums; repeatable"
    )
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    options = parser.parse_args(arguments)
    if options.seconds < 4 or options.nj < 1:
        parser.error("--seconds is at least 4 and --nj at least 1")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    numbers = soundfonts.seeds(options.split, options.first, options.count)
    if options.soundfont:
        drums = options.drum_soundfont or options.soundfont
        fonts = soundfonts.Fonts(tuple(options.soundfont), tuple(drums))
    else:
        fonts = soundfonts.fonts_of(options.split, options.soundfont_folder)
    for font in (*fonts.tuned, *fonts.drums):
        if not font.is_file():
            raise SystemExit(f"error: no SoundFont {font}")
    folder = options.out / options.split
    folder.mkdir(parents=True, exist_ok=True)
    names = {"fonts": [f.name for f in fonts.tuned], "drum_fonts": [f.name for f in fonts.drums]}
    keep_settings(options.out / f"{options.split}.json", {"seconds": options.seconds, **names})
    job = partial(render_track, folder=folder, seconds=options.seconds, fonts=fonts)
    bar = partial(tqdm, total=len(numbers), desc=options.split, disable=not sys.stderr.isatty())
    if options.nj == 1:
        _use_one_thread()
        deque(bar(map(job, numbers)), maxlen=0)
        return
    with multiprocessing.get_context("spawn").Pool(options.nj, initializer=_use_one_thread) as pool:
        deque(bar(pool.imap_unordered(job, numbers)), maxlen=0)


def _use_one_thread() -> None:
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
