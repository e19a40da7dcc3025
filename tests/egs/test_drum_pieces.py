"""egs/mini_slakh/drum_pieces: the pieces of a kit, which sum to the kit, and a prior over them."""

from __future__ import annotations

import random
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("midirenderer")

RECIPE = Path(__file__).parents[2] / "egs" / "mini_slakh" / "drum_pieces"
PIECES = ("kick", "snare", "hats", "toms", "cymbals")


@pytest.fixture
def local(load_script: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    return load_script(RECIPE / "data" / "local" / "pieces.py")


def recipe_of(font: Path) -> Any:
    fonts = import_module("soundfonts").Fonts((font,), (font,))
    patches = import_module("patches").Patches(reverb=0.0)
    return import_module("recipe").Recipe(6.0, fonts, patches=patches)


def test_every_note_of_a_kit_is_of_one_piece_and_hands_of_none(local: Any) -> None:
    drums = import_module("drums")
    kit = {value for name, value in vars(drums).items() if name.isupper() and type(value) is int}
    notes = kit | {*drums.TOMS, *drums.CRASHES}
    for note in notes:
        assert sum(note in own for own in local.PIECES.values()) == 1, note
    for note in drums.HAND:
        assert not any(note in own for own in local.PIECES.values())


def test_pieces_sum_to_the_kit(local: Any, font: Path) -> None:
    """Without reverb and effects the renderer is linear in notes: hats choke hats alone."""
    recipe, tape = recipe_of(font), import_module("tapes").Tape(6.0)
    part = next(p for p in recipe.song(90001, 6.0).parts if p.stem == "drums")
    own = local.pieces(part)
    kit = {note for piece in own.values() for note in piece.notes}
    performance, player = import_module("performance"), import_module("variation").Player()

    def play(notes: Any) -> np.ndarray:
        one = performance.Performance(notes, font, player, None, "")
        return one.render(tape, random.Random(0), recipe)

    whole = play(local.replace(part, notes=tuple(n for n in part.notes if n in kit)))
    apart = [play(piece) for piece in own.values()]
    assert np.abs(whole).max() > 0.05
    # Each of the five files and the whole are rounded to 16 bits, and resampled in float32.
    assert np.abs(sum(apart) - whole).max() < 6 * 2.0**-15 + 1e-4


def test_a_song_has_a_file_for_each_piece_and_is_the_same_again(
    local: Any, font: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(font)
    for folder in ("a", "b"):
        local.render_track(90001, tmp_path / folder, recipe)
    stems = {}
    for name in PIECES:
        path = f"Track90001/{name}.flac"
        stems[name], rate = soundfile.read(tmp_path / "a" / path, dtype="int16")
        assert (rate, stems[name].shape) == (22050, (6 * 22050,))
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    assert {f.stem for f in (tmp_path / "a" / "Track90001").iterdir()} == set(PIECES)
    assert np.abs(np.sum(list(stems.values()), 0, dtype=np.int32)).max() < 2**15


def test_the_training_is_of_these_pieces(local: Any) -> None:
    settings = tomllib.loads((RECIPE / "conf" / "pieces.toml").read_text())
    assert tuple(settings["data"]["stems"]) == tuple(local.PIECES) == PIECES
