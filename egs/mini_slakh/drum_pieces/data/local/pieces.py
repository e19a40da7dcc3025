"""Render the drums of composed songs as one stem for each piece of the kit.

    python local/pieces.py OUT --split train --first 0 --count 200 --seconds 30 --soundfonts FOLDER

writes OUT/<split>/TrackXXXXX/{kick,snare,hats,toms,cymbals}.flac at 22,050 Hz, mono. Songs, fonts,
varied and virtual kits and effects are those of ../../data; every piece of a song is played on the
same kit and passes through the same effects by itself. A finished track is kept.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[3] / "data" / "local"))

import drums
import levels
import performance
import soundfonts
import tapes
from recipe import Recipe
from score import Part

# General MIDI drum notes. Hand percussion belongs to no piece of the kit and is left out.
PIECES = {
    "kick": {35, drums.KICK},
    "snare": {drums.STICK, drums.SNARE, drums.CLAP, drums.SNARE_2},
    "hats": {drums.HAT, drums.PEDAL, drums.OPEN},
    "toms": {*drums.TOMS},
    "cymbals": {drums.RIDE, drums.BELL, 52, 59, *drums.CRASHES},
}
BALANCE_DB = 3.0  # either way: a piece against how loud the font has it


def pieces(part: Part) -> dict[str, Part]:
    """The drum part of a song by piece; a piece without notes has a part without notes."""
    return {
        name: replace(part, notes=tuple(note for note in part.notes if note.pitch in pitches))
        for name, pitches in PIECES.items()
    }


def render_song(number: int, recipe: Recipe) -> dict[str, np.ndarray]:
    """Piece -> int16 [time] of song ``number``; neither a piece nor their sum clips."""
    tape = tapes.draw(number, recipe.seconds, recipe.pitch)
    song = recipe.song(number, recipe.seconds * tape.speed)
    place, part = next((k, p) for k, p in enumerate(song.parts) if p.stem == "drums")
    rng = random.Random(f"pieces {number}")
    font = recipe.patches.draw_font(recipe.fonts.of("drums"), rng)
    player, room = recipe.player(number, place, part), rng.getrandbits(32)
    waves = {}
    for name, own in pieces(part).items():
        played = performance.Performance(own, font, player, None, "")
        wave = played.render(tape, random.Random(room), recipe)  # the same reverb for all
        waves[name] = wave * 10 ** (rng.uniform(-BALANCE_DB, BALANCE_DB) / 20)
    stems, _ = levels.set_together(list(waves.values()), rng)
    return dict(zip(waves, stems, strict=True))


def render_track(number: int, folder: Path, recipe: Recipe) -> None:
    """Write folder/TrackXXXXX, unless it is there already."""
    track = folder / f"Track{number:05d}"
    if track.is_dir():
        return
    partial = folder / f".{track.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, samples in render_song(number, recipe).items():
        soundfile.write(partial / f"{name}.flac", samples, tapes.SAMPLE_RATE, subtype="PCM_16")
    partial.rename(track)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=soundfonts.SPLITS, required=True)
    parser.add_argument("--first", type=int, default=0, help="first song of the split")
    parser.add_argument("--count", type=int, required=True, help="number of songs")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a song")
    parser.add_argument("--soundfonts", type=Path, required=True, help="folder of fonts")
    parser.add_argument("--vary", type=float, default=0.0, help="share of varied or virtual kits")
    parser.add_argument(
        "--pitch", type=float, default=0.0, help="songs are up to so many semitones off"
    )
    options = parser.parse_args(arguments)
    if options.seconds < 4 or not 0 <= options.vary <= 1 or not 0 <= options.pitch <= 12:
        parser.error("--seconds is at least 4, --vary 0 to 1, --pitch 0 to 12")
    fonts = soundfonts.fonts_of(options.split, options.soundfonts)
    if options.split == "train":  # those that build_fonts.py made are of training sounds alone
        built = sorted(options.soundfonts.glob("drums_*.sf2"))
        fonts = replace(fonts, extra=tuple(("drums", font) for font in built))
    recipe = Recipe(options.seconds, fonts, vary=options.vary, pitch=options.pitch)
    numbers = soundfonts.seeds(options.split, options.first, options.count)
    for number in tqdm(numbers, desc=options.split, disable=not sys.stderr.isatty()):
        render_track(number, options.out / options.split, recipe)


if __name__ == "__main__":
    main()
