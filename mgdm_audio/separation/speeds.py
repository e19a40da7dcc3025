"""Speed augmentation at test time: draws at several speeds of a track, brought back to its own.

A network knows the instruments that it was trained on. A few semitones higher or lower a sound is
another instrument to it, and its mistakes are partly others: the mean over speeds errs less than
the mean over as many draws at one, and their spread says more of the error.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from torch import Tensor

from mgdm_audio.audio.resampling import resample, resample_back
from mgdm_audio.config import from_mapping
from mgdm_audio.ranges import Checked, Rule
from mgdm_audio.samplers.presets import Preset

LARGEST = 12.0  # semitones
_STEPS = 64  # speeds are multiples of 1 / 64, at most 14 cents off: short polyphase filters


Speeds = Annotated[
    tuple[float, ...],
    Rule(
        lambda speeds: speeds[:1] == (0,) and all(abs(s) <= LARGEST for s in speeds),
        "speeds = {values}: semitones, 0 first, up to 12 or -12",
    ),
]


@dataclass(frozen=True)
class SeparationOptions(Checked):
    """The table [separation] of a preset."""

    speeds: Speeds = (0.0,)  # semitones; the draws take turns


def speeds_of(preset: Preset) -> tuple[float, ...]:
    """The speeds of a preset's draws in semitones. Raises ConfigError for what is no option."""
    table = from_mapping(SeparationOptions, preset.separation, f"{preset.name}: separation")
    return table.speeds


def ratio(semitones: float) -> Fraction:
    """How many times as fast, to one 64th. Raises ValueError beyond an octave either way."""
    if not abs(semitones) <= LARGEST:
        raise ValueError(f"speeds: {semitones} semitones; give -{LARGEST:g} to {LARGEST:g}")
    return Fraction(round(_STEPS * 2 ** (semitones / 12)), _STEPS)


def play(x: Tensor, speed: Fraction) -> Tensor:
    """[..., time] -> [..., ceil(time / speed)], with every frequency times ``speed``.

    What would pass the Nyquist frequency is lost.
    """
    return resample(x, speed.numerator, speed.denominator)


def play_back(x: Tensor, speed: Fraction, time: int) -> Tensor:
    """What was played, ``time`` samples long, at its own speed again.

    ``x`` may go on after it (with the padding of a frame, say).
    """
    played = math.ceil(time / speed)
    return resample_back(x[..., :played], speed.denominator, speed.numerator, time)


def at_own_speed(reference: Tensor, played: Tensor, speed: Fraction) -> Tensor:
    """An estimate of what was played, at the track's own speed: [..., time].

    reference: [..., time], an estimate at the track's own speed; played: [..., at least
    ceil(time / speed)], see ``play_back``. What the way there and back loses, the top band at
    least, is taken from ``reference``.
    """
    kept = play(reference, speed)
    time = reference.shape[-1]
    return reference + play_back(played[..., : kept.shape[-1]] - kept, speed, time)
