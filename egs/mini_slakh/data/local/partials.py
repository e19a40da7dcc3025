"""Sums of partials, fast: a decaying sinusoid is a geometric series, so blocks of it factorise.

With z = exp((i 2 pi f - decay) / rate), z^(B k + b) = z^(B k) z^b: the waveform, cut into rows of
B samples, is the product of a [rows, partial] and a [partial, B] matrix.
"""

from __future__ import annotations

import math
import random

import numpy as np

BLOCK = 256


def ring(
    frequencies: np.ndarray, decays: np.ndarray, amplitudes: np.ndarray, length: int, rate: float
) -> np.ndarray:
    """Sum of a exp(-decay t) sin(2 pi f t) over the partials; Hz, 1/s; float32 [length].

    All partials start at phase 0. Those above 0.48 of the sample rate are left out.
    """
    kept = (frequencies < 0.48 * rate) & (np.abs(amplitudes) > 1e-6)
    cycles, losses = frequencies[kept] / rate, decays[kept] / rate
    rows = -(-length // BLOCK)
    rows_sin, rows_cos = _powers(cycles, losses, BLOCK * np.arange(rows))
    sin, cos = _powers(cycles, losses, np.arange(BLOCK))
    weight = amplitudes[kept].astype(np.float32)
    left = np.concatenate([rows_sin * weight, rows_cos * weight], axis=1)
    return (left @ np.concatenate([cos, sin], axis=1).T).reshape(-1)[:length]


def sweep(frequencies: np.ndarray, frames: np.ndarray, length: int, rate: float) -> np.ndarray:
    """Sum of sin(2 pi f t), the amplitudes going in straight lines through `frames`.

    frames: [rows + 1, partial], one every BLOCK samples; returns float32 [length].
    """
    cycles = frequencies / rate
    rows = len(frames) - 1
    rows_sin, rows_cos = _powers(cycles, 0 * cycles, BLOCK * np.arange(rows))
    sin, cos = _powers(cycles, 0 * cycles, np.arange(BLOCK))
    ramp = (np.arange(BLOCK, dtype=np.float32) / BLOCK)[:, None]
    start = frames[:-1].astype(np.float32)
    step = np.diff(frames, axis=0).astype(np.float32)
    out = np.concatenate([rows_sin * start, rows_cos * start], 1) @ np.concatenate([cos, sin], 1).T
    out += (
        np.concatenate([rows_sin * step, rows_cos * step], 1)
        @ np.concatenate([ramp * cos, ramp * sin], 1).T
    )
    return out.reshape(-1)[:length]


def _powers(
    cycles: np.ndarray, losses: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine parts of z^time, float32 [time, partial]; phases are reduced in float64."""
    turns = times[:, None] * cycles
    angle = ((turns - np.rint(turns)) * (2 * math.pi)).astype(np.float32)
    fade = np.exp((-times[:, None] * losses).astype(np.float32))
    return np.sin(angle) * fade, np.cos(angle) * fade


class Colour:
    """A fixed, smooth random gain over frequency (a body, a soundboard, a pickup)."""

    def __init__(self, rng: random.Random, depth_db: float, nodes: int = 14):
        self.places = np.linspace(math.log(50), math.log(11025), nodes)
        self.gains = np.array([rng.gauss(0, depth_db) for _ in range(nodes)])

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        gains = np.interp(np.log(np.maximum(frequencies, 1.0)), self.places, self.gains)
        return 10 ** (gains / 20)


def burst(
    length: int, decay: float, low: float, high: float, rate: float, noise: np.random.Generator
) -> np.ndarray:
    """Noise between `low` and `high` Hz that dies away with `decay` (1/s); rms 1 at its start."""
    spectrum = np.fft.rfft(noise.standard_normal(length))
    frequencies = np.fft.rfftfreq(length, 1 / rate)
    band = 1 / (1 + (frequencies / high) ** 4) / (1 + (low / np.maximum(frequencies, 1)) ** 4)
    wave = np.fft.irfft(spectrum * band, length)
    wave /= max(float(wave.std()), 1e-9)
    return (wave * np.exp(-decay * np.arange(length) / rate)).astype(np.float32)
