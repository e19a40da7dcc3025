"""A separator that hears a track at several speeds, as a tape is played, and brings all back.

A network knows the instruments that it was trained on. Played a few semitones higher or lower a
sound is another instrument to it, and its mistakes are partly others: the mean over speeds errs
less than the mean over as many draws at one, and their spread says more of the error.
"""

import math
from fractions import Fraction

from torch import Tensor

from mgdm_audio.audio.resampling import resample, resample_back

LARGEST = 12.0  # semitones
_STEPS = 64  # speeds are multiples of 1 / 64, at most 14 cents off: short polyphase filters


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


def take_over(as_is: Tensor, played: Tensor, speed: Fraction) -> Tensor:
    """``as_is``, with what its playing keeps replaced by an estimate of what was played.

    as_is: [..., time]; played: [..., at least ceil(time / speed)], see ``play_back``. What the way
    there and back loses, the top band at least, is as in ``as_is``.
    """
    kept = play(as_is, speed)
    return as_is + play_back(played[..., : kept.shape[-1]] - kept, speed, as_is.shape[-1])
