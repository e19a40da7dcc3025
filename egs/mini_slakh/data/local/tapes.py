"""Songs played faster or slower, as a tape: higher or lower by the same ratio."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from torchaudio.functional import resample

SAMPLE_RATE = 22050
RENDERER_RATE = 48000


@dataclass(frozen=True)
class Tape:
    """`length` samples at 22,050 Hz of music recorded at `recorded_rate` Hz.

    `fast_lengths`: sizes, at 48,000 Hz and at the recorded rate, of the transforms that resample.
    """

    seconds: float
    speed: float = 1.0
    fast_lengths: tuple[int, int] | None = None

    @property
    def length(self) -> int:
        return round(self.seconds * SAMPLE_RATE)

    @property
    def recorded_seconds(self) -> float:
        return self.seconds * self.speed

    @property
    def recorded_rate(self) -> float:
        return SAMPLE_RATE / self.speed

    def play(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """`wave` [time] at `rate` Hz as it sounds from this tape: float32 [length]."""
        if self.fast_lengths is None or rate != RENDERER_RATE:
            target = SAMPLE_RATE if self.speed == 1.0 else round(self.recorded_rate)
            out = resample(torch.from_numpy(wave), rate, target).numpy()
        else:
            before, after = self.fast_lengths
            spectrum = scipy.fft.rfft(wave, before)[: after // 2 + 1]
            out = scipy.fft.irfft(spectrum, after) * np.float32(after / before)
        return np.pad(out[: self.length], (0, max(0, self.length - len(out))))


def draw(number: int, seconds: float, semitones: float) -> Tape:
    """The tape of song `number`, up to `semitones` off, at a speed for which resampling is fast."""
    if semitones == 0:
        return Tape(seconds)
    up = random.Random(f"tape {number}").uniform(-semitones, semitones)
    after = scipy.fft.next_fast_len(round(seconds * SAMPLE_RATE) + 1024)
    wanted = after * RENDERER_RATE / SAMPLE_RATE * 2 ** (up / 12)
    before = scipy.fft.prev_fast_len(round(wanted))
    return Tape(seconds, before / after * SAMPLE_RATE / RENDERER_RATE, (before, after))
