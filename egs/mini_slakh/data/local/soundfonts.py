"""SoundFonts: which split uses which, and what to change to play them (conf/soundfonts.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import sf2_preset
from score import Part

CONF = Path(__file__).parent.parent / "conf" / "soundfonts.toml"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fonts:
    """Files to draw from for each part: drums have their own list; `extra` adds (stem, file)."""

    tuned: tuple[Path, ...]
    drums: tuple[Path, ...]
    extra: tuple[tuple[str, Path], ...] = ()

    def of(self, stem: str) -> tuple[Path, ...]:
        general = self.drums if stem == "drums" else self.tuned
        return general + tuple(font for name, font in self.extra if name == stem)


def read_conf() -> dict[str, Any]:
    return tomllib.loads(CONF.read_text(encoding="utf-8"))


def seeds(split: str, first: int, count: int) -> range:
    """Seeds of songs [first, first + count) of a split. SystemExit beyond the split's range."""
    conf = read_conf()["splits"][split]
    if first < 0 or count < 0 or first + count > conf["seeds"]:
        last = conf["seeds"] - 1
        raise SystemExit(
            f"error: {split} has songs 0 to {last}, not {first} to {first + count - 1} ({CONF})"
        )
    return range(conf["first_seed"] + first, conf["first_seed"] + first + count)


def fonts_of(split: str, folder: Path) -> Fonts:
    """The split's fonts that are in `folder`, or its substitutes. SystemExit if there are none."""
    conf = read_conf()["splits"][split]
    otherwise = conf.get("otherwise", [])
    tuned = _present(conf["fonts"], folder) or _present(otherwise, folder)
    drums = _present(conf.get("drum_fonts", conf["fonts"]), folder) or _present(otherwise, folder)
    if not tuned or not drums:
        raise SystemExit(
            f"error: none of {', '.join(conf['fonts'] + otherwise)} is in {folder}; "
            "run local/fetch_soundfonts.py or name one with --soundfont"
        )
    return Fonts(tuned, drums)


@cache
def load_preset(font: Path, program: int, bank: int) -> bytes:
    """A font of one preset of `font`, as the renderer would choose it for (program, bank), with the
    filters opened that the renderer would leave closed."""
    preset = sf2_preset.read(_read_once(font), program, bank)
    opened = read_conf()["fonts"].get(font.name, {}).get("open_filters", [])
    if bank == 0 and program in opened:
        sf2_preset.open_filters(preset)
    return sf2_preset.write(preset, program, bank)


@cache
def _read_once(font: Path) -> bytes:
    return font.read_bytes()


def fit_part(part: Part, font: str) -> Part:
    """The part with drum notes moved to where `font` (a file name) has them."""
    moves = read_conf()["fonts"].get(font, {}).get("drum_map", {})
    if part.stem != "drums" or not moves:
        return part
    notes = (replace(note, pitch=moves.get(str(note.pitch), note.pitch)) for note in part.notes)
    return replace(part, notes=tuple(notes))


def _present(names: list[str], folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in names if (folder / name).is_file())
