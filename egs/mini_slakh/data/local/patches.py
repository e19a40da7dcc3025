"""Sets of instruments: which programs the composer draws, and which fonts play them."""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

CONF = Path(__file__).parent.parent / "conf" / "patches.toml"
Programs = dict[str, dict[int, float]]  # stem -> General MIDI program -> weight


@dataclass(frozen=True)
class Patches:
    """`programs`: of the stems whose own weights are not used. `fonts`: file name -> weight."""

    programs: Programs = field(default_factory=dict)
    fonts: dict[str, float] = field(default_factory=dict)
    virtual: float = 0.4  # share of the varied parts that are synthesised
    reverb: float = 0.7  # share of the parts with reverb in the renderer

    def draw_font(self, fonts: tuple[Path, ...], rng: random.Random) -> Path:
        if not self.fonts:
            return rng.choice(fonts)
        return rng.choices(fonts, [self.fonts.get(font.name, 1.0) for font in fonts])[0]


@cache
def read() -> dict[str, Patches]:
    """The sets of the table by name."""
    table = tomllib.loads(CONF.read_text(encoding="utf-8"))
    sets = {}
    for name, entry in table.items():
        programs = {
            stem: {int(program): float(weight) for program, weight in weights.items()}
            for stem, weights in entry.pop("programs").items()
        }
        sets[name] = Patches(programs, **entry)
    return sets
