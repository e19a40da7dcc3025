"""Which parts are varied, and how: a varied font or a virtual instrument, then effects."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import effects
import numpy as np
import sf2_vary
import virtual
from score import Part
from tapes import Tape

# General MIDI program -> chance that its virtual instrument, which is clean, has an amplifier
AMPLIFIED = {
    4: 0.3, 5: 0.3, 7: 0.3, 26: 0.5, 27: 0.6, 28: 0.6, 29: 1.0, 30: 1.0, 31: 0.4,
    33: 0.35, 34: 0.45, 35: 0.25, 36: 0.3, 37: 0.3, 38: 0.2, 39: 0.2,
}  # fmt: skip


@dataclass(frozen=True)
class Player:
    """How one part is played: as drawn from `seed`, or without a seed as the font has it."""

    seed: str = ""
    is_virtual: bool = False

    @property
    def name(self) -> str:
        return "virtual" if self.is_virtual else ""

    def touch(self, part: Part) -> Part:
        """The part with a softer or harder curve of velocities."""
        if not self.seed:
            return part
        curve = 2 ** random.Random(f"touch {self.seed}").uniform(-0.7, 0.6)
        notes = (
            replace(n, velocity=max(1, round(127 * (n.velocity / 127) ** curve)))
            for n in part.notes
        )
        return replace(part, notes=tuple(notes))

    def vary_font(self, preset: bytes, program: int, bank: int) -> bytes:
        if not self.seed:
            return preset
        return sf2_vary.vary(preset, program, bank, random.Random(f"font {self.seed}"))

    def synthesise(self, part: Part, tape: Tape) -> np.ndarray:
        """The part on a virtual instrument, float32 [time] as it sounds from `tape`."""
        rng = random.Random(f"virtual {self.seed}")
        return virtual.render(self.touch(part), tape.length, tape.recorded_rate, rng)

    def finish(self, part: Part, wave: np.ndarray, amplified: float | None = None) -> np.ndarray:
        """The effects on `wave` [time]; a virtual overdriven guitar always has its amplifier.

        `amplified`: the chance of an amplifier, where it is not to follow from the part.
        """
        if not self.seed:
            return wave
        rng = random.Random(f"effects {self.seed}")
        if amplified is None and self.is_virtual:
            amplified = AMPLIFIED.get(part.program)
        if part.stem == "drums":
            amplified = None
        return effects.apply(part.stem, wave, rng, part.program, amplified)


def draw(number: int, place: int, share: float, virtual_share: float) -> Player:
    """The player of the part at `place` of song `number`; a `share` of the parts is varied, and a
    `virtual_share` of those is synthesised."""
    rng = random.Random(f"vary {number} {place}")
    if rng.random() >= share:
        return Player()
    return Player(f"{number} {place}", is_virtual=rng.random() < virtual_share)
