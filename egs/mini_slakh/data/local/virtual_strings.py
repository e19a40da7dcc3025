"""Plucked strings: guitars, basses, harpsichord and clavinet as sums of decaying partials.

An ideal string plucked at the fraction b of its length has partials of amplitude sin(n pi b) / n^2;
a pickup at the fraction g multiplies them by sin(n pi g); stiffness B puts them at
n f sqrt(1 + B n^2) (Fletcher and Rossing, The Physics of Musical Instruments, ch. 2).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from partials import Colour, burst, ring

MOST_PARTIALS = 140
Range = tuple[float, float]


@dataclass(frozen=True)
class Kind:
    """Ranges that a kind of string is drawn from; `bright` Hz, `decay` and `loss` 1/s."""

    position: Range  # where it is plucked
    tilt: Range  # amplitudes fall with n^-tilt
    bright: Range  # above this the plectrum or finger excites little
    decay: Range  # of the lowest partials
    loss: Range  # more of it per kHz
    stiffness: Range = (2e-5, 3e-4)
    body_db: float = 0.0  # strength of an acoustic body
    pickups: float = 0.0  # chance of each of two pickups
    click: Range = (0.01, 0.15)
    attack: Range = (0.0003, 0.002)  # seconds
    choirs: float = 0.0  # chance of a second string an octave above
    touch: float = 1.0  # how much velocity changes brightness and level
    release: Range = (0.03, 0.15)  # seconds to fall by 1 / e after the note's end


KINDS = {
    "nylon": Kind((0.12, 0.35), (0.9, 1.7), (1260, 4200), (0.6, 2.5), (0.5, 2.5), (1e-5, 8e-5),
                  body_db=5, attack=(0.001, 0.005)),
    "steel": Kind((0.08, 0.3), (0.6, 1.4), (2520, 9800), (0.4, 1.6), (0.15, 1.0), (3e-5, 2e-4),
                  body_db=4.5, click=(0.03, 0.3), choirs=0.1),
    "jazz": Kind((0.15, 0.4), (0.8, 1.6), (1170, 3900), (0.3, 1.6), (0.2, 1.0), (2e-5, 1e-4),
                 body_db=2, pickups=0.9),
    "electric": Kind((0.06, 0.3), (0.4, 1.2), (2520, 9800), (0.25, 1.2), (0.1, 0.7),
                     (2e-5, 1.5e-4), pickups=0.9),
    "muted": Kind((0.05, 0.25), (0.6, 1.3), (1400, 5600), (2, 14), (0.5, 5), (2e-5, 1.5e-4),
                  pickups=0.8, body_db=1),
    "harmonics": Kind((0.3, 0.5), (1.2, 2.2), (2400, 7200), (0.4, 1.2), (0.2, 0.8), (1e-5, 8e-5),
                      pickups=0.6, body_db=2),
    "upright": Kind((0.15, 0.45), (1.0, 1.9), (490, 1960), (0.7, 3.0), (1, 5), (5e-5, 4e-4),
                    body_db=5, attack=(0.002, 0.01), click=(0.02, 0.2)),
    "finger": Kind((0.1, 0.35), (0.7, 1.5), (680, 3300), (0.3, 1.5), (0.4, 3), (5e-5, 5e-4),
                   pickups=0.9, attack=(0.001, 0.006)),
    "pick": Kind((0.06, 0.25), (0.4, 1.2), (1680, 6300), (0.3, 1.5), (0.2, 1.5), (5e-5, 6e-4),
                 pickups=0.9, click=(0.03, 0.3)),
    "fretless": Kind((0.1, 0.35), (0.8, 1.6), (700, 2520), (0.3, 1.2), (0.5, 2.5), (5e-5, 4e-4),
                     pickups=0.9, attack=(0.008, 0.04)),
    "slap": Kind((0.04, 0.2), (0.2, 1.0), (2500, 8000), (0.4, 2.0), (0.15, 1.0), (5e-5, 6e-4),
                 pickups=0.9, click=(0.1, 0.5), touch=1.4),
    "harpsichord": Kind((0.08, 0.25), (0.1, 0.8), (3000, 9000), (0.5, 1.5), (0.15, 0.6),
                        (1e-5, 1e-4), body_db=4, click=(0.05, 0.3), choirs=0.6, touch=0.15),
    "clavinet": Kind((0.05, 0.25), (0.2, 0.9), (2000, 7000), (0.4, 2.0), (0.1, 0.8), (3e-5, 2e-4),
                     pickups=1.0, click=(0.03, 0.3), release=(0.01, 0.04)),
}  # fmt: skip


class Plucked:
    """One plucked instrument: `Plucked(kind, rng, rate).note(...)`; rate in Hz."""

    def __init__(self, kind: str, rng: random.Random, rate: float):
        self.kind, self.rate = KINDS[kind], rate
        draw = self.kind
        self.position, self.tilt = rng.uniform(*draw.position), rng.uniform(*draw.tilt)
        self.bright = _log(rng, draw.bright)
        self.decay, self.loss = _log(rng, draw.decay), _log(rng, draw.loss)
        self.stiffness = _log(rng, draw.stiffness)
        self.click, self.attack = _log(rng, draw.click), _log(rng, draw.attack)
        self.click_band = (rng.uniform(150, 1500), rng.uniform(2000, 8000))
        self.colour = Colour(rng, 1.5 + draw.body_db)
        self.pickups = [rng.uniform(0.04, 0.3) for _ in "ab" if rng.random() < draw.pickups]
        self.pickup_balance = rng.uniform(-0.6, 1.0)
        self.choir = rng.uniform(0.3, 0.9) if rng.random() < draw.choirs else 0.0
        self.uneven_db, self.uneven = rng.uniform(0.5, 4), rng.uniform(0.1, 0.5)
        self.beat, self.cross = rng.uniform(0.05, 0.7), rng.uniform(0.1, 0.8)
        self.body = [
            (low * rng.uniform(0.8, 1.25), rng.uniform(12, 40), rng.uniform(0.1, 0.5))
            for low in ((60, 110, 190) if kind == "upright" else (100, 200, 390))
        ] if draw.body_db >= 4 else []  # fmt: skip
        self.tuning, self.wander = rng.uniform(-4, 4), rng.uniform(0.3, 2)
        self.release = _log(rng, draw.release)
        self.touch = draw.touch * rng.uniform(0.7, 1.4)
        self.salt = rng.random()
        self.longest = 7.0

    def note(self, pitch: int, velocity: float, seconds: float, take: int) -> np.ndarray:
        """float32 [time]; velocity in (0, 1]. Takes differ as two strokes of one hand do."""
        string = random.Random(f"{self.salt} {pitch}")
        stroke = random.Random(f"{self.salt} {pitch} {velocity} {take}")
        length = round(seconds * self.rate)
        cents = self.tuning + string.uniform(-self.wander, self.wander) + stroke.uniform(-1, 1)
        fundamental = 440 * 2 ** ((pitch - 69 + cents / 100) / 12)
        out = self._string(fundamental, velocity, length, string, stroke)
        if self.choir:
            out += self.choir * self._string(2.002 * fundamental, velocity, length, string, stroke)
        time = np.arange(min(length, round(8 * self.attack * self.rate) + 2)) / self.rate
        out[: len(time)] *= (1 - np.exp(-time / self.attack)).astype(np.float32)
        if self.body:
            low, decay, gain = (np.array(column) for column in zip(*self.body, strict=True))
            out += ring(low, decay, gain * 0.5, length, self.rate)
        noise = np.random.default_rng(stroke.getrandbits(64))
        short = min(length, round(0.06 * self.rate))
        click = burst(short, stroke.uniform(80, 400), *self.click_band, self.rate, noise)
        out[:short] += self.click * velocity**self.touch * click
        return out * velocity ** (1.1 * self.touch)

    def _string(
        self, fundamental: float, velocity: float, length: int, string: random.Random,
        stroke: random.Random,
    ) -> np.ndarray:  # fmt: skip
        count = int(min(MOST_PARTIALS, max(1, 0.48 * self.rate / fundamental)))
        n = np.arange(1, count + 1)
        stretch = np.sqrt((1 + self.stiffness * n**2) / (1 + self.stiffness))
        frequencies = n * fundamental * stretch
        position = self.position * stroke.uniform(0.85, 1.15)
        amplitudes = np.sin(math.pi * n * position) / n**self.tilt
        heard = [np.sin(math.pi * n * place) for place in self.pickups]
        if heard:
            amplitudes *= heard[0] + (self.pickup_balance * heard[1] if len(heard) > 1 else 0)
        bright = max(1.5 * fundamental, self.bright * (0.35 + velocity) ** self.touch)
        amplitudes *= np.exp(-((frequencies / bright) ** 1.3)) * self.colour(frequencies)
        amplitudes *= 10 ** (np.array([string.gauss(0, self.uneven_db) for _ in n]) / 20)
        floor = 0.25 * math.sqrt(float((amplitudes**2).sum()))
        amplitudes[0] = math.copysign(max(abs(amplitudes[0]), floor), amplitudes[0])
        amplitudes /= math.sqrt(float((amplitudes**2).sum()))
        decays = self.decay * (fundamental / 150) ** 0.4 + self.loss * (frequencies / 1000) ** 1.2
        decays = decays * np.exp([string.gauss(0, self.uneven) for _ in n])
        side = np.exp([string.gauss(0.8, 0.4) for _ in n])
        return ring(
            np.concatenate([frequencies, frequencies + self.beat * np.sqrt(n)]),
            np.concatenate([decays, decays * side]),
            np.concatenate([amplitudes, amplitudes * self.cross]),
            length,
            self.rate,
        )


def _log(rng: random.Random, ends: Range) -> float:
    return math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1])))
