"""Compose songs and render them into the folder form of Slakh2100.

    python local/render.py OUT --split train --first 0 --count 300 --seconds 60 --nj 2

writes OUT/<split>/TrackXXXXX/{mix.flac, stems/SXX.flac, metadata.yaml, all_src.mid}, where XXXXX is
the song's seed; with --form stems only TrackXXXXX/{bass,drums,guitar,piano}.flac, for training, and
with --other other.flac too.
A track depends on its seed and the options alone, so the output is the same for every --nj. A
finished track is kept: an interrupted run goes on where it stopped.
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
from dataclasses import replace
from functools import partial
from pathlib import Path

import amps
import fifth
import levels
import metadata
import midi
import numpy as np
import patches
import performance
import soundfile
import soundfonts
import tapes
import torch
import voices
from midi_read import BadSong
from recipe import DEBIAN, Recipe
from score import STEMS, Song
from tapes import SAMPLE_RATE
from tqdm import tqdm

EVERY_STEM = (*STEMS, fifth.STEM)
# Options that the recipe has by the same name.
PASSED_ON = ("seconds", "form", "vary", "pitch", "amps", "midi", "other", "sung", "debian")


def render_track(number: int, *, folder: Path, recipe: Recipe) -> Path:
    """Compose and render song `number` into folder/TrackXXXXX, unless it is there already."""
    track = folder / f"Track{number:05d}"
    if track.is_dir():
        return track
    tape = tapes.draw(number, recipe.seconds, recipe.pitch)
    song = recipe.song(number, recipe.seconds * tape.speed)
    rng = random.Random(f"render {number}")
    played = performance.of_song(number, song.parts, recipe, rng)
    waves = [one.render(tape, rng, recipe) for one in played]
    stems, gain = levels.set_levels([part.stem for part in song.parts], waves, rng)

    partial_track = folder / f".{track.name}.partial"
    shutil.rmtree(partial_track, ignore_errors=True)
    partial_track.mkdir(parents=True)
    if recipe.form == "stems":
        _write_stems(partial_track, recipe.stems, song, stems)
    else:
        (partial_track / "stems").mkdir()
        for k, stem in enumerate(stems):
            _write(partial_track / "stems" / f"S{k:02d}.flac", stem)
        mix = sum((stem.astype(np.int32) for stem in stems), np.int32(0))
        _write(partial_track / "mix.flac", np.asarray(mix, dtype=np.int16))
        (partial_track / "all_src.mid").write_bytes(midi.song_bytes(song))
        identifier = uuid.uuid5(uuid.NAMESPACE_OID, f"mini_slakh {number}").hex
        names = [one.player.name or one.font.stem for one in played]
        text = metadata.dump(song, identifier, gain, names)
        (partial_track / "metadata.yaml").write_text(text, encoding="utf-8")
    partial_track.rename(track)
    return track


def _write_stems(track: Path, names: tuple[str, ...], song: Song, parts: list[np.ndarray]) -> None:
    """A file for each stem of `names`, its parts summed; all quieter if one would clip."""
    length = len(parts[0])
    stems = {stem: np.zeros(length, np.int32) for stem in names}
    for part, samples in zip(song.parts, parts, strict=True):
        stems[part.stem] += samples
    gain = min(1.0, 32767 / max(1, *(int(np.abs(samples).max()) for samples in stems.values())))
    for stem, samples in stems.items():
        _write(track / f"{stem}.flac", np.rint(samples * gain).astype(np.int16))


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
    parser.add_argument(
        "--class-soundfont",
        type=_class_font,
        action="append",
        default=[],
        metavar="STEM=FILE",
        help=f"one more font for the parts of {', '.join(EVERY_STEM)}; repeatable",
    )
    parser.add_argument("--form", choices=("slakh", "stems"), default="slakh")
    parser.add_argument(
        "--vary",
        type=float,
        default=0.0,
        help="share of the parts on varied or virtual instruments",
    )
    parser.add_argument(
        "--pitch", type=float, default=0.0, help="songs play up to so many semitones off, as tapes"
    )
    add = parser.add_argument
    add("--patches", choices=patches.read(), help="set of instruments (conf/patches.toml)")
    add("--amps", type=_share, default=0.0, help="share of the songs with guitar amplifiers")
    add("--midi", type=Path, help="folder of TrackXXXXX.mid: songs that are not composed")
    add("--other", type=_share, help="write a fifth stem, which sounds in this share of the songs")
    add("--sung", type=_share, default=0.0, help="share of these songs that have a singer")
    add("--debian", type=Path, default=DEBIAN, help="folder of local/fetch_programs.py")
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    options = parser.parse_args(arguments)
    if options.seconds < 4 or options.nj < 1:
        parser.error("--seconds is at least 4 and --nj at least 1")
    if not 0 <= options.vary <= 1 or not 0 <= options.pitch <= 12:
        parser.error("--vary is between 0 and 1 and --pitch between 0 and 12")
    if options.other is not None and options.form != "stems":
        parser.error("--other needs --form stems")
    return options


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


def _class_font(text: str) -> tuple[str, Path]:
    stem, _, name = text.partition("=")
    if stem not in EVERY_STEM or not name:
        known = ", ".join(EVERY_STEM)
        raise argparse.ArgumentTypeError(f"{text} is not STEM=FILE, STEM one of {known}")
    return stem, Path(name)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    numbers = soundfonts.seeds(options.split, options.first, options.count)
    if options.soundfont:
        drums = options.drum_soundfont or options.soundfont
        fonts = soundfonts.Fonts(tuple(options.soundfont), tuple(drums))
    else:
        fonts = soundfonts.fonts_of(options.split, options.soundfont_folder)
    fonts = replace(fonts, extra=tuple(options.class_soundfont))
    for font in (*fonts.tuned, *fonts.drums, *(font for _, font in fonts.extra)):
        if not font.is_file():
            raise SystemExit(f"error: no SoundFont {font}")
        with open(font, "rb") as file:
            if file.read(12)[8:] != b"sfbk":
                raise SystemExit(f"error: {font}: not a SoundFont 2 file; give another")
    recipe = _recipe(options, fonts)
    folder = options.out / options.split
    folder.mkdir(parents=True, exist_ok=True)
    keep_settings(options.out / f"{options.split}.json", _settings(options, fonts))
    job = partial(render_track, folder=folder, recipe=recipe)
    bar = partial(tqdm, total=len(numbers), desc=options.split, disable=not sys.stderr.isatty())
    try:
        if options.nj == 1:
            _use_one_thread()
            deque(bar(map(job, numbers)), maxlen=0)
            return
        spawn = multiprocessing.get_context("spawn")
        with spawn.Pool(options.nj, initializer=_use_one_thread) as pool:
            deque(bar(pool.imap_unordered(job, numbers)), maxlen=0)
    except (OSError, BadSong) as error:
        raise SystemExit(f"error: {error}") from None


def _recipe(options: argparse.Namespace, fonts: soundfonts.Fonts) -> Recipe:
    """SystemExit where a folder that the options need is not there."""
    named = {name: getattr(options, name) for name in PASSED_ON}
    chosen = patches.read()[options.patches] if options.patches else patches.Patches()
    recipe = Recipe(fonts=fonts, patches=chosen, **named)
    try:
        if recipe.amps:
            amps.cabinets(recipe.debian)
        if recipe.other and recipe.sung:
            voices.program(recipe.debian)
    except OSError as error:
        raise SystemExit(f"error: {error}") from None
    if recipe.midi and not any(recipe.midi.glob("Track*.mid")):
        raise SystemExit(f"error: no TrackXXXXX.mid in {recipe.midi}; run local/compose_mma.py")
    return recipe


def _settings(options: argparse.Namespace, fonts: soundfonts.Fonts) -> dict[str, object]:
    """What the tracks depend on: `seconds`, the fonts, and what is not at its default."""
    settings: dict[str, object] = {
        "seconds": options.seconds,
        "fonts": [f.name for f in fonts.tuned],
        "drum_fonts": [f.name for f in fonts.drums],
    }
    defaults = {"form": "slakh", "vary": 0.0, "pitch": 0.0, "patches": None, "amps": 0.0}
    defaults |= {"midi": None, "other": None, "sung": 0.0}
    for name, default in defaults.items():
        value = getattr(options, name)
        if value != default:
            settings[name] = value.name if isinstance(value, Path) else value
    if fonts.extra:
        settings["class_fonts"] = [f"{stem}={font.name}" for stem, font in fonts.extra]
    return settings


def _use_one_thread() -> None:
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
