"""Synthesiser bass: saw, pulse and sub oscillators through a resonant low-pass with an envelope."""

from __future__ import annotations

import math
import random

import numpy as np
from partials import BLOCK, sweep


class SynthBass:
    def __init__(self, rng: random.Random, rate: float):
        self.rate = rate
        self.saw, self.pulse = rng.random(), rng.random()
        self.width, self.sub = rng.uniform(0.1, 0.5), rng.uniform(0, 0.8)
        self.detune = rng.choice((0.0, rng.uniform(2, 9)))  # cents to a second oscillator
        self.cutoff = math.exp(rng.uniform(math.log(90), math.log(900)))
        self.sweep = rng.uniform(0.3, 4.5)  # octaves that the envelope opens the filter
        self.resonance, self.poles = rng.uniform(0.6, 5), rng.choice((1, 2))
        self.close = rng.uniform(2, 20)  # 1/s
        self.sustain, self.decay = rng.uniform(0.3, 1), rng.uniform(0.5, 6)
        self.attack, self.release = rng.uniform(0.001, 0.02), rng.uniform(0.01, 0.12)
        self.touch, self.tuning = rng.uniform(0.2, 1.3), rng.uniform(-4, 4)
        self.longest = 6.0

    def note(self, pitch: int, velocity: float, seconds: float, take: int) -> np.ndarray:
        """float32 [time]; velocity in (0, 1] opens the filter and makes louder."""
        length = round(seconds * self.rate)
        fundamental = 440 * 2 ** ((pitch - 69 + self.tuning / 100) / 12)
        n = np.arange(1, int(min(120, 0.48 * self.rate / fundamental)) + 1)
        shape = self.saw / n + self.pulse * np.sin(math.pi * n * self.width) / n
        frequencies, shape = n * fundamental, shape + 1e-4
        if self.detune:
            frequencies = np.concatenate([frequencies, frequencies * 2 ** (self.detune / 1200)])
            shape = np.concatenate([shape, 0.7 * shape])
        frequencies = np.concatenate([frequencies, [fundamental / 2]])
        shape = np.concatenate([shape, [0.5 * self.sub if fundamental > 60 else 0.0]])
        time = np.arange(-(-length // BLOCK) + 1) * BLOCK / self.rate
        octaves = self.sweep * (0.3 + 0.7 * velocity**self.touch) * np.exp(-self.close * time)
        ratio = frequencies / (self.cutoff * 2**octaves)[:, None]
        gain = 1 / np.sqrt((1 - ratio**2) ** 2 + (ratio / self.resonance) ** 2)
        level = self.sustain + (1 - self.sustain) * np.exp(-self.decay * time)
        out = sweep(frequencies, shape * gain**self.poles * level[:, None], length, self.rate)
        rise = min(length, round(self.attack * self.rate) + 1)
        out[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)
        loud = max(float(np.sqrt((out[: round(0.3 * self.rate)] ** 2).mean())), 1e-6)
        return out * np.float32(0.7 * velocity**self.touch / loud)
