"""A drum kit: swept sines, membrane modes, filtered noise and dense inharmonic partials."""

from __future__ import annotations

import math
import random

import numpy as np
from drums import BELL, CLAP, CRASHES, HAT, KICK, OPEN, PEDAL, RIDE, SNARE, SNARE_2, STICK, TOMS
from partials import burst, ring

MEMBRANE = np.array([1.0, 1.59, 2.14, 2.30, 2.65, 2.92])  # ideal circular membrane
LEVELS = {
    "kick": 0.0,
    "snare": -2.0,
    "tom": -2.0,
    "hat": -16.0,
    "ride": -14.0,
    "cymbal": -9.0,
    "other": -10.0,
}


class Kit:
    """`note` takes a General MIDI drum number for its pitch; every drum has draws of its own."""

    def __init__(self, rng: random.Random, rate: float):
        self.rate, self.salt = rate, rng.random()
        self.release, self.longest = 0.3, 4.0
        self.balance = {kind: level + rng.gauss(0, 3.5) for kind, level in LEVELS.items()}
        self.electronic = rng.random() < 0.25
        self.metal = rng.uniform(250, 700)
        self.touch = rng.uniform(0.9, 1.8)

    def note(self, pitch: int, velocity: float, seconds: float, take: int) -> np.ndarray:
        drum = random.Random(f"{self.salt} {pitch}")
        noise = np.random.default_rng(random.Random(f"{self.salt} {pitch} {take}").getrandbits(64))
        if pitch in (KICK, 35):
            kind, wave = "kick", self._kick(drum, velocity, noise)
        elif pitch in (SNARE, SNARE_2):
            kind, wave = "snare", self._snare(drum, velocity, noise)
        elif pitch in TOMS:
            kind, wave = "tom", self._tom(drum, pitch, velocity, noise)
        elif pitch in (HAT, PEDAL, OPEN):
            kind, wave = "hat", self._hat(drum, pitch, velocity, noise)
        elif pitch in (RIDE, BELL, *CRASHES):
            kind, wave = (
                "cymbal" if pitch in CRASHES else "ride",
                self._cymbal(drum, pitch, velocity, noise),
            )
        else:
            kind, wave = "other", self._other(drum, pitch, noise)
        loud = math.sqrt(float((wave[: round(0.05 * self.rate)] ** 2).mean()))
        loud = max(loud, float(np.abs(wave).max()) / 4.5)
        level = 10 ** ((self.balance[kind] + drum.gauss(0, 1)) / 20)
        return (wave * (level * velocity**self.touch / loud)).astype(np.float32)

    def _kick(self, drum: random.Random, velocity: float, noise: np.random.Generator) -> np.ndarray:
        low, sweep = drum.uniform(38, 78), drum.uniform(0.5, 5)
        fast, decay = drum.uniform(15, 70), drum.uniform(5, 18)
        if self.electronic:
            decay *= drum.uniform(0.3, 1)
        wave = self._swept(low, sweep, fast, decay, 0.9)
        shell = ring(low * MEMBRANE[1:], np.full(5, 3 * decay), np.full(5, drum.uniform(0, 0.2)),
                     len(wave), self.rate)  # fmt: skip
        click = drum.uniform(0.05, 0.5) * velocity
        short = round(0.05 * self.rate)
        wave = wave + shell
        band = drum.uniform(400, 2500), drum.uniform(3000, 8000)
        wave[:short] += click * burst(short, drum.uniform(100, 500), *band, self.rate, noise)
        return wave

    def _snare(
        self, drum: random.Random, velocity: float, noise: np.random.Generator
    ) -> np.ndarray:
        tone, decay = drum.uniform(150, 290), drum.uniform(12, 40)
        wave = self._swept(tone, drum.uniform(0.1, 0.8), drum.uniform(30, 100), decay, 0.7)
        modes = np.array([drum.uniform(0.05, 0.5) for _ in MEMBRANE])
        decays = decay * np.array([drum.uniform(0.8, 2.5) for _ in MEMBRANE])
        wave = wave + ring(tone * MEMBRANE, decays, modes, len(wave), self.rate)
        rattle, gain = drum.uniform(7, 28), drum.uniform(0.3, 1.5)
        low, high = drum.uniform(400, 2500), drum.uniform(4500, 11000)
        wires = burst(len(wave), rattle, low, high * (0.6 + 0.4 * velocity), self.rate, noise)
        return wave + np.float32(gain) * wires

    def _tom(
        self, drum: random.Random, pitch: int, velocity: float, noise: np.random.Generator
    ) -> np.ndarray:
        size = random.Random(f"{self.salt} toms")
        lowest, spread = size.uniform(60, 110), size.uniform(1.12, 1.28)
        decay, sweep = size.uniform(2.5, 9), size.uniform(0.05, 0.6)
        tone = lowest * spread ** TOMS[::-1].index(pitch)
        wave = self._swept(tone, sweep, size.uniform(8, 30), decay, 1.2)
        wave = wave + ring(tone * MEMBRANE[1:], decay * np.array([1.5, 2, 2.5, 3, 4]),
                           np.array([drum.uniform(0, 0.35) for _ in range(5)]), len(wave),
                           self.rate)  # fmt: skip
        short = round(0.08 * self.rate)
        stick = burst(short, size.uniform(60, 250), 300, size.uniform(2000, 7000), self.rate, noise)
        wave[:short] += size.uniform(0.05, 0.5) * velocity * stick
        return wave

    def _hat(
        self, drum: random.Random, pitch: int, velocity: float, noise: np.random.Generator
    ) -> np.ndarray:
        hat = random.Random(f"{self.salt} hat")
        low, high = hat.uniform(3000, 7000), hat.uniform(8000, 14000)
        tight, opened, metal = hat.uniform(25, 90), hat.uniform(2.5, 9), hat.uniform(0, 1.2)
        decay = {HAT: tight, PEDAL: tight * 1.5, OPEN: opened}[pitch]
        seconds = min(1.8, 6 / decay + 0.05)
        return self._metal(hat, seconds, decay, low, high, metal, noise)

    def _cymbal(
        self, drum: random.Random, pitch: int, velocity: float, noise: np.random.Generator
    ) -> np.ndarray:
        decay = drum.uniform(1.2, 4) if pitch in (RIDE, BELL) else drum.uniform(0.8, 3)
        low, high = drum.uniform(1200, 5000), drum.uniform(7000, 13000)
        metal = drum.uniform(0.3, 1.5)
        wave = self._metal(drum, 3.0, decay, low, high, metal, noise)
        if pitch in (RIDE, BELL):
            tone = drum.uniform(350, 900) * np.array([1, 1.5, 2.3, 3.1, 4.7, 6.2])
            tone = tone * np.array([drum.uniform(0.93, 1.07) for _ in range(6)])
            gain = drum.uniform(0.3, 1.2) * (2.0 if pitch == BELL else 0.4)
            ping = ring(tone, np.full(6, decay * 1.5), np.full(6, gain), len(wave), self.rate)
            wave = wave * drum.uniform(0.4, 1) + ping
        return wave

    def _other(self, drum: random.Random, pitch: int, noise: np.random.Generator) -> np.ndarray:
        if pitch == STICK:
            tone = drum.uniform(350, 900) * np.array([1, 2.1, 3.4, 4.9])
            return ring(tone, np.full(4, drum.uniform(40, 110)), np.array([1, 0.8, 0.6, 0.4]),
                        round(0.25 * self.rate), self.rate)  # fmt: skip
        if pitch == 56:  # cowbell
            tone = drum.uniform(480, 620) * np.array([1, 1.48, 2.6, 3.8])
            return ring(tone, np.full(4, drum.uniform(8, 25)), np.array([1, 0.9, 0.3, 0.2]),
                        round(0.5 * self.rate), self.rate)  # fmt: skip
        wave = burst(round(0.4 * self.rate), drum.uniform(15, 50), drum.uniform(700, 4000),
                     drum.uniform(5000, 12000), self.rate, noise)  # fmt: skip
        if pitch == CLAP:
            repeats = np.zeros_like(wave)
            for k in range(drum.randint(2, 4)):
                gap = round(k * drum.uniform(0.007, 0.014) * self.rate)
                repeats[gap:] += wave[: len(wave) - gap] * np.float32(0.7 + 0.1 * k)
            return repeats
        return wave

    def _swept(
        self, low: float, sweep: float, fast: float, decay: float, seconds: float
    ) -> np.ndarray:
        """A sine that falls from (1 + sweep) low to low Hz."""
        time = np.arange(round(seconds * self.rate)) / self.rate
        turns = low * (time + sweep / fast * (1 - np.exp(-fast * time)))
        rise = np.minimum(1, time / 0.001)
        return (np.sin(2 * math.pi * turns) * np.exp(-decay * time) * rise).astype(np.float32)

    def _metal(
        self, drum: random.Random, seconds: float, decay: float, low: float, high: float,
        metal: float, noise: np.random.Generator,
    ) -> np.ndarray:  # fmt: skip
        """Noise above `low` Hz and 60 inharmonic partials above a third of it."""
        length = round(seconds * self.rate)
        wave = burst(length, decay, low, high, self.rate, noise)
        tones = np.array([0.33 * low * (high * 3 / low) ** drum.random() for _ in range(60)])
        decays = decay * np.array([drum.uniform(0.5, 2) for _ in range(60)])
        gains = np.array([drum.gauss(0, 1) for _ in range(60)]) / 5.5
        return wave + np.float32(metal) * ring(tones, decays, gains, length, self.rate)
