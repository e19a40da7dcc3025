"""Keys, modes, chords and progressions."""

from __future__ import annotations

import random
from dataclasses import dataclass

MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "harmonic_minor": (0, 2, 3, 5, 7, 8, 11),
}
MODE_WEIGHTS = (8, 7, 3, 3, 1, 1, 2)

# Scale degrees, one a bar. Written for the ear, not for a style; any of them is used in any mode.
PROGRESSIONS = (
    (0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 0, 4), (1, 4, 0, 0), (0, 5, 1, 4),
    (3, 4, 2, 5), (0, 2, 3, 4), (0, 6, 5, 4), (0, 6, 3, 0), (0, 3, 6, 2), (5, 1, 4, 0),
    (0, 0, 3, 3), (0, 1, 3, 0), (0, 4, 1, 3), (2, 5, 1, 4), (0, 2, 5, 3), (3, 0, 4, 5),
    (0, 0, 0, 0), (0, 3), (0, 6), (0, 1),
    (0, 0, 5, 5, 3, 3, 4, 4), (0, 4, 5, 2, 3, 0, 3, 4), (0, 3, 4, 3, 0, 3, 4, 4),
    (0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4),
)  # fmt: skip


@dataclass(frozen=True)
class Chord:
    """Pitch class of the root, semitones above it, its scale as pitch classes in degree order."""

    root: int
    intervals: tuple[int, ...]
    scale: tuple[int, ...]
    degree: int

    def near(self, low: int, interval: int = 0) -> int:
        """The lowest pitch from `low` on that is `interval` semitones above a root."""
        return low + (self.root + interval - low) % 12

    def voicing(self, low: int, count: int, spread: int = 0) -> list[int]:
        """`count` chord tones upwards from `low`; `spread` tones are left out after the first."""
        tones = [
            p
            for p in range(low, low + 60)
            if (p - self.root) % 12 in {i % 12 for i in self.intervals}
        ]
        return [tones[0], *tones[1 + spread : count + spread]]

    def scale_pitch(self, index: int, low: int) -> int:
        """The `index`-th scale tone upwards from `low` (index may be negative)."""
        tones = sorted(self.scale)
        start = next(k for k in range(200) if 12 * (k // 7) + tones[k % 7] >= low)
        octave, place = divmod(start + index, 7)
        return 12 * octave + tones[place]


def diatonic_chord(key: int, mode: str, degree: int, colour: str) -> Chord:
    """The chord on a scale degree: "triad", "seventh", "ninth", "sus" or "power"."""
    steps = MODES[mode]
    scale = tuple((key + s) % 12 for s in steps)

    def above(k: int) -> int:
        octave, place = divmod(degree + k, 7)
        return 12 * octave + steps[place] - steps[degree]

    picks = {
        "triad": (0, 2, 4),
        "seventh": (0, 2, 4, 6),
        "ninth": (0, 2, 4, 6, 8),
        "sus": (0, 3, 4),
        "power": (0, 4),
    }
    return Chord((key + steps[degree]) % 12, tuple(above(k) for k in picks[colour]), scale, degree)


def draw_mode(rng: random.Random) -> str:
    return rng.choices(list(MODES), MODE_WEIGHTS)[0]


def draw_progression(rng: random.Random) -> tuple[int, ...]:
    if rng.random() < 0.75:
        return rng.choice(PROGRESSIONS)
    return (rng.choice((0, 0, 5, 3)), *(rng.randrange(7) for _ in range(rng.choice((3, 3, 7)))))
