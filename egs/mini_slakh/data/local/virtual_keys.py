"""Pianos as struck strings and electric pianos by frequency modulation."""

from __future__ import annotations

import math
import random

import numpy as np
from partials import Colour, burst, ring

MOST_PARTIALS = 90


class Struck:
    """A piano: stiff strings in twos or threes, a hammer duller when soft, decay in two stages.

    The strings of a note, coupled at the bridge, lose energy fast while in phase and slowly after
    (Weinreich, Coupled piano strings, 1977): a fast and a slow partial stand for them.
    """

    def __init__(self, rng: random.Random, rate: float, mistuned: float, electric: bool):
        self.rate, self.electric = rate, electric
        self.stiffness = 2 ** rng.uniform(-1.3, 1.3)
        self.detune = rng.uniform(0.3, 2.5) if mistuned == 0 else mistuned
        self.position = rng.uniform(0.08, 0.18)
        self.hard = math.exp(rng.uniform(math.log(700), math.log(3500)))
        self.touch = rng.uniform(0.8, 2.0)
        self.tilt = rng.uniform(0.1, 0.9)
        self.decay = math.exp(rng.uniform(math.log(0.2), math.log(0.8)))
        self.loss = math.exp(rng.uniform(math.log(0.1), math.log(0.7)))
        self.fast, self.after = rng.uniform(2.5, 8), rng.uniform(0.15, 0.7)
        self.colour = Colour(rng, rng.uniform(1, 4))
        self.knock = 0.0 if electric else math.exp(rng.uniform(math.log(0.01), math.log(0.2)))
        self.knock_high = rng.uniform(300, 2000)
        self.bass_tilt = rng.uniform(-0.02, 0.02)
        self.release = rng.uniform(0.04, 0.16)
        self.tuning = rng.uniform(-4, 4)
        self.salt = rng.random()
        self.longest = 7.0

    def note(self, pitch: int, velocity: float, seconds: float, take: int) -> np.ndarray:
        own = random.Random(f"{self.salt} {pitch}")
        length = round(seconds * self.rate)
        fundamental = 440 * 2 ** ((pitch - 69 + (self.tuning + own.uniform(-1.5, 1.5)) / 100) / 12)
        count = int(min(MOST_PARTIALS, max(1, 0.48 * self.rate / fundamental)))
        n = np.arange(1, count + 1)
        b = self.stiffness * (
            2.5e-4 * math.exp(0.08 * (pitch - 60)) + 1.2e-4 * 0.92 ** (pitch - 33)
        )
        frequencies = n * fundamental * np.sqrt((1 + b * n**2) / (1 + b))
        hard = self.hard * 2 ** ((pitch - 60) / 30) * (0.3 + 1.2 * velocity**self.touch)
        hard = max(hard, 1.2 * fundamental)
        amplitudes = np.sin(math.pi * n * self.position) / n**self.tilt
        amplitudes *= np.exp(-frequencies / hard) * self.colour(frequencies)
        amplitudes *= 10 ** (np.array([own.gauss(0, 2.5) for _ in n]) / 20)
        amplitudes /= math.sqrt(float((amplitudes**2).sum()))
        slow = self.decay * 2 ** ((pitch - 60) / 14) + self.loss * (frequencies / 1000) ** 1.1
        slow = slow * np.exp([own.gauss(0, 0.3) for _ in n])
        cents = self.detune * own.uniform(0.5, 1.5)
        up = 2 ** (cents / 1200)
        out = ring(
            np.concatenate([frequencies / math.sqrt(up), frequencies * math.sqrt(up)]),
            np.concatenate([slow * self.fast, slow]),
            np.concatenate([amplitudes, amplitudes * self.after]),
            length,
            self.rate,
        )
        if self.knock:
            noise = np.random.default_rng(own.getrandbits(64))
            short = min(length, round(0.15 * self.rate))
            knock = burst(short, own.uniform(30, 90), 60, self.knock_high, self.rate, noise)
            out[:short] += self.knock * knock * velocity
        return out * np.float32(velocity**1.3 * 2 ** (self.bass_tilt * (pitch - 60)))


class Modulated:
    """A tine, reed or bell piano: a sine carrier modulated by one sine, and a decaying tine.

    Chowning, The synthesis of complex audio spectra by means of frequency modulation (1973); the
    asymmetric tanh is a pickup beside the tine.
    """

    def __init__(self, rng: random.Random, rate: float):
        self.rate = rate
        kind = rng.choice(("tine", "tine", "reed", "bell"))
        self.ratio = {"tine": 1, "reed": rng.choice((1, 2)), "bell": rng.choice((1, 2, 3))}[kind]
        self.index = rng.uniform(0.2, 1.0) if kind != "bell" else rng.uniform(0.5, 2.2)
        self.index_decay = rng.uniform(0.5, 4)
        self.tine_ratio = rng.choice((7.0, 14.0, rng.uniform(5.5, 9.5), rng.uniform(11, 15)))
        self.tine = rng.uniform(0.03, 0.35)
        self.tine_decay = rng.uniform(4, 25)
        self.bias = rng.uniform(0.0, 0.7) if kind == "tine" else rng.uniform(0, 0.3)
        self.drive = rng.uniform(0.2, 1.4) if kind != "bell" else 0.1
        if kind == "reed":
            self.drive *= 2
        self.decay = math.exp(rng.uniform(math.log(0.4), math.log(1.6)))
        self.touch = rng.uniform(0.8, 2)
        self.release = rng.uniform(0.03, 0.12)
        self.tuning = rng.uniform(-4, 4)
        self.salt = rng.random()
        self.longest = 6.0

    def note(self, pitch: int, velocity: float, seconds: float, take: int) -> np.ndarray:
        own = random.Random(f"{self.salt} {pitch}")
        time = np.arange(round(seconds * self.rate), dtype=np.float32) / np.float32(self.rate)
        frequency = 440 * 2 ** ((pitch - 69 + (self.tuning + own.uniform(-1, 1)) / 100) / 12)
        turn = np.float32(2 * math.pi * frequency) * time
        force = velocity**self.touch
        decay = self.decay * 2 ** ((pitch - 60) / 24)
        fade = np.exp(np.float32(-decay) * time)
        index = np.float32(2 * self.index * force) * np.exp(np.float32(-self.index_decay) * time)
        tone = np.sin(turn + index * np.sin(np.float32(self.ratio) * turn)) * fade
        drive = np.float32(self.drive * (0.3 + force))
        tone = np.tanh(drive * tone + np.float32(self.bias)) - np.float32(math.tanh(self.bias))
        tone /= np.float32(math.tanh(float(drive)))
        if self.tine_ratio * frequency < 0.45 * self.rate:
            strike = np.float32(self.tine * force) * np.exp(np.float32(-self.tine_decay) * time)
            tone += strike * np.sin(np.float32(self.tine_ratio) * turn)
        rise = min(len(time), round(0.003 * self.rate))
        tone[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)
        return tone * np.float32(velocity**1.3)
