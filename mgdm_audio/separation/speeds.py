"""Speed augmentation at test time: draws of a track played at several speeds, resampled back.

A network generalises imperfectly to instruments outside its training set. At another speed a sound
has another pitch and timbre, and the network's errors are partly independent: the mean over speeds
has a smaller error than the mean over as many draws at one speed, and their spread covers more of
the error.
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
_STEPS = 64  # speeds are multiples of 1 / 64, within 14 cents, for short polyphase filters


Speeds = Annotated[
    tuple[float, ...],
    Rule(
        lambda speeds: speeds[:1] == (0,) and all(abs(s) <= LARGEST for s in speeds),
        "speeds = {values}: semitones, 0 first, up to 12 or -12",
    ),
]


@dataclass(frozen=True)
class SeparationOptions(Checked):
    """The settings in the table [separation] of a preset."""

    speeds: Speeds = (0.0,)  # semitones; the draws cycle through them


def speeds_of(preset: Preset) -> tuple[float, ...]:
    """Returns a preset's speeds in semitones. Raises ConfigError for an unknown option."""
    table = from_mapping(SeparationOptions, preset.separation, f"{preset.name}: separation")
    return table.speeds


def ratio(semitones: float) -> Fraction:
    """Returns the speed as a multiple of 1 / 64. Raises ValueError beyond an octave."""
    if not abs(semitones) <= LARGEST:
        raise ValueError(f"speeds: {semitones} semitones; give -{LARGEST:g} to {LARGEST:g}")
    return Fraction(round(_STEPS * 2 ** (semitones / 12)), _STEPS)


def play(x: Tensor, speed: Fraction) -> Tensor:
    """Resamples [..., time] to [..., ceil(time / speed)], which scales frequencies by ``speed``.

    Content that would exceed the Nyquist frequency is lost.
    """
    return resample(x, speed.numerator, speed.denominator)


def play_back(x: Tensor, speed: Fraction, time: int) -> Tensor:
    """Inverts ``play`` of a signal of ``time`` samples, at whose end ``x`` may have padding."""
    played = math.ceil(time / speed)
    return resample_back(x[..., :played], speed.denominator, speed.numerator, time)


def at_own_speed(reference: Tensor, played: Tensor, speed: Fraction) -> Tensor:
    """Returns the estimate ``played`` resampled to the track's own speed: [..., time].

    ``reference``: [..., time], an estimate made at the own speed; ``played``: [..., at least
    ceil(time / speed)], see ``play_back``. Content that resampling loses, at least the highest
    band, is taken from ``reference``.
    """
    kept = play(reference, speed)
    time = reference.shape[-1]
    return reference + play_back(played[..., : kept.shape[-1]] - kept, speed, time)
