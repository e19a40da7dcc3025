"""Recorded notes and drum hits as SoundFont zones.

Sound files become int16 mono at `RATE` Hz without the silence before the attack; an instrument is
scaled as a whole, so that its notes keep their balance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import sf2
import soundfile
import torch
from sf2_format import CUTOFF, DECAY, EXCLUSIVE, FINE, RELEASE, ROOT_KEY, SUSTAIN, timecents
from torchaudio.functional import resample

RATE = 22050  # of the sounds written, which is that of the rendered tracks
LEVEL = 0.2  # root mean square of an instrument's median note over its first 0.5 s
PEAK = 0.95
NOTE = re.compile(r"([A-G])(#|s|b)?(-?\d)")
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
HATS = (42, 44, 46)  # a hit on one ends the others
TOMS = (41, 43, 45, 47, 48, 50)
# Where a kit lacks a drum that the composer plays: the drums that stand in for it, best first.
STAND_INS = {
    35: (36,), 36: (35,), 37: (40, 38), 38: (40,), 39: (38,), 40: (38,), 42: (44, 46), 44: (42,),
    46: (42,), 49: (57, 55), 57: (49, 55), 55: (57, 49), 51: (59, 53, 57, 49), 53: (51, 59, 57, 49),
    54: (70, 82, 42), 56: (53, 67, 37), 69: (70, 82, 42), 70: (69, 82, 42),
    41: (43, 45, 47, 48, 50), 43: (45, 41, 47, 48, 50), 45: (47, 43, 48, 50, 41),
    47: (48, 45, 50, 43, 41), 48: (47, 50, 45, 43, 41), 50: (48, 47, 45, 43, 41),
}  # fmt: skip
# Loudest 50 ms of each drum against the kick's, dB; files are often scaled to the same peak.
BALANCE = {
    35: 0, 36: 0, 37: -8, 38: -1, 39: -4, 40: -1, 42: -14, 44: -15, 46: -11, 49: -7, 51: -14,
    53: -12, 54: -11, 55: -9, 56: -10, 57: -7, 59: -14, 69: -14, 70: -16, 82: -16,
}  # fmt: skip
TOM_BALANCE, OTHER_BALANCE, KICK_LEVEL = -3, -8, 0.4


@dataclass(frozen=True)
class Shaping:
    """How notes are changed: their longest duration and release in seconds, the decay to silence in
    seconds (muted strings), overdrive in dB, the low-pass filter in Hz, and the distance in cents
    of two copies that sound together (honky-tonk)."""

    seconds: float = 5.0
    release: float = 0.3
    decay: float | None = None
    drive: float | None = None
    cutoff: float | None = None
    detune: int = 0

    def generators(self) -> dict[int, int]:
        changed = {RELEASE: timecents(self.release)}
        if self.decay is not None:
            changed |= {DECAY: timecents(self.decay), SUSTAIN: 1000}
        if self.cutoff is not None:
            changed[CUTOFF] = round(1200 * np.log2(self.cutoff / 8.176))
        return changed


def key_of(name: str) -> int:
    """MIDI note of a file name that starts with it (C4 = 60; sharps as # or s)."""
    match = NOTE.match(name)
    if match is None:
        raise ValueError(f"{name}: the name does not start with a note such as C4 or D#3")
    letter, sign, octave = match.groups()
    return 12 * (int(octave) + 1) + STEPS[letter] + {"b": -1, None: 0}.get(sign, 1)


def spans(roots: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Keys that each root plays, both ends included: up to the midpoint between neighbours."""
    ordered = sorted(roots)
    middles = [(low + high) // 2 for low, high in pairwise(ordered)]
    starts, ends = [0, *(m + 1 for m in middles)], [*middles, 127]
    return dict(zip(ordered, zip(starts, ends, strict=True), strict=True))


def notes(layers: list[list[Path]], seconds: float, drive: float | None) -> list[sf2.Zone]:
    """Zones of notes whose file names tell their pitch; `layers` from soft to loud. `seconds` and
    `drive` as in Shaping."""
    zones = []
    for velocities, layer in zip(_split(len(layers)), layers, strict=True):
        waves = {key_of(path.name): load(path, seconds) for path in layer}
        if drive is not None:
            waves = {key: _overdrive(wave, drive) for key, wave in waves.items()}
        gain = LEVEL / np.median([_rms(wave[: RATE // 2]) for wave in waves.values()])
        gain = min(gain, PEAK / max(np.abs(wave).max() for wave in waves.values()))
        for key, span in spans(waves).items():
            sample = sf2.Sample(f"{key} {layer[0].stem}", _int16(waves[key] * gain), RATE, key)
            zones.append(sf2.Zone(sample, span, velocities))
    return zones


def shaped(zones: list[sf2.Zone], shaping: Shaping) -> list[sf2.Zone]:
    """Zones with the shaping's envelope and filter, twice where it detunes."""
    more = shaping.generators()
    copies = [-shaping.detune // 2, shaping.detune // 2]
    return [
        sf2.Zone(z.sample, z.keys, z.velocities, _added(z.generators | more, copy))
        for copy in (copies if shaping.detune else [0])
        for z in zones
    ]  # fmt: skip


def kit(hits: dict[int, list[Path]], seconds: float, layers: int) -> list[sf2.Zone]:
    """Zones of a drum kit: for each MIDI note its files, of which at most `layers` are kept, from
    soft to loud."""
    zones: list[sf2.Zone] = []
    for key, paths in hits.items():
        loaded = [(load(path, seconds), path.stem) for path in paths]
        loaded.sort(key=lambda wave_and_name: loudness(wave_and_name[0]))
        count = min(layers, len(loaded))
        kept = [loaded[-1 - k * len(loaded) // count] for k in range(count)][::-1]
        target = KICK_LEVEL * 10 ** (_balance(key) / 20)
        for (wave, name), span in zip(kept, _split(count), strict=True):
            sample = sf2.Sample(f"{key} {name}", _int16(_scaled(wave, target)), RATE, key)
            zones.append(sf2.Zone(sample, (key, key), span, hit(key)))
    return zones


def hit(key: int) -> dict[int, int]:
    """Generators of a drum: it sounds on after its key is released; hi-hats end each other."""
    return {RELEASE: timecents(3.0)} | ({EXCLUSIVE: 1} if key in HATS else {})


def complete(kit: list[sf2.Zone]) -> list[sf2.Zone]:
    """A kit and what stands in for the drums it lacks; toms are tuned two semitones apart."""
    by_key = {key: [z for z in kit if z.keys[0] <= key <= z.keys[1]] for key in range(128)}
    found = list(kit)
    for key, others in STAND_INS.items():
        other = next((o for o in others if by_key[o]), None)
        if by_key[key] or other is None:
            continue
        shift = 2 * (TOMS.index(key) - TOMS.index(other)) if key in TOMS else 0
        for z in by_key[other]:
            root = z.generators.get(ROOT_KEY, z.sample.root) + key - other - shift
            tuned = z.generators | {ROOT_KEY: min(127, max(0, root))}
            found.append(sf2.Zone(z.sample, (key, key), z.velocities, tuned))
    return found


def load(path: Path, seconds: float) -> np.ndarray:
    """A sound file as float32 [time], mono at RATE, from its attack on for at most `seconds`."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = resample(torch.from_numpy(wave.mean(axis=1)), rate, RATE).numpy()
    loud = np.flatnonzero(np.abs(mono) > 0.02 * np.abs(mono).max())
    if not len(loud):
        raise ValueError(f"{path}: silent")
    mono = mono[max(0, int(loud[0]) - RATE // 500) :]
    length = min(len(mono), round(seconds * RATE))
    fade = min(length, RATE // 2 if length < len(mono) else RATE // 50)
    out = mono[:length].copy()
    out[:22] *= np.linspace(0, 1, 22, dtype=np.float32)[: len(out)]
    out[length - fade :] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
    return np.pad(out, (0, max(0, 64 - length)))


def loudness(wave: np.ndarray) -> float:
    """Root mean square of the loudest 50 ms."""
    frame = RATE // 20
    padded = np.pad(wave, (0, -len(wave) % frame)).reshape(-1, frame)
    return float(np.sqrt((padded.astype(np.float64) ** 2).mean(axis=1).max()))


def _balance(key: int) -> float:
    return BALANCE.get(key, TOM_BALANCE if key in TOMS else OTHER_BALANCE)


def _scaled(wave: np.ndarray, target: float) -> np.ndarray:
    return wave * min(target / loudness(wave), PEAK / float(np.abs(wave).max()))


def _overdrive(wave: np.ndarray, decibels: float) -> np.ndarray:
    """Soft clipping after a pre-emphasis, which keeps the low strings from masking the rest."""
    bright = np.diff(wave, prepend=np.float32(0)) + 0.15 * wave
    driven = np.tanh(bright / np.abs(bright).max() * 10 ** (decibels / 20))
    fade = RATE // 20
    driven[-fade:] *= np.linspace(1, 0, fade)
    return np.asarray(driven - driven.mean(), np.float32)


def _added(generators: dict[int, int], cents: int) -> dict[int, int]:
    return generators | {FINE: generators.get(FINE, 0) + cents}


def _split(count: int) -> list[tuple[int, int]]:
    """Velocity ranges of `count` layers, both ends included."""
    edges = [128 * k // count for k in range(count + 1)]
    return [(low, high - 1) for low, high in pairwise(edges)]


def _rms(wave: np.ndarray) -> float:
    return float(np.sqrt((wave.astype(np.float64) ** 2).mean()))


def _int16(wave: np.ndarray) -> np.ndarray:
    return np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
