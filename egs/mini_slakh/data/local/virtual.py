"""Virtual instruments: a part played by an instrument whose parameters are drawn from a seed.

Each sound is synthesised once per pitch, layer of velocity and take, then placed where its notes
are. Overdriven guitars come out clean: their amplifier is among the effects.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Protocol

import numpy as np
from midi import without_overlap
from scipy.signal import butter, sosfilt
from score import Note, Part
from virtual_bass import SynthBass
from virtual_drums import Kit
from virtual_keys import Modulated, Struck
from virtual_strings import Plucked

LAYERS, TAKES = 10, 3  # of velocity; of each stroke
PLUCKED = {  # General MIDI program -> kinds of strings to draw from
    7: ("clavinet",), 6: ("harpsichord",), 24: ("nylon",), 25: ("steel",), 26: ("jazz",),
    27: ("electric",), 28: ("muted",), 29: ("electric",), 30: ("electric",), 31: ("harmonics",),
    32: ("upright",), 33: ("finger", "finger", "pick"), 34: ("pick",), 35: ("fretless",),
    36: ("slap",), 37: ("slap",),
}  # fmt: skip


LOW_CUT = 22.0  # Hz


class Instrument(Protocol):
    """`release`: seconds to fall by 1 / e after a note's end; `longest`: no sound lasts longer."""

    release: float
    longest: float

    def note(self, pitch: int, velocity: float, seconds: float, take: int) -> np.ndarray: ...


def draw(part: Part, rng: random.Random, rate: float) -> Instrument:
    """An instrument of the kind that the part's stem and program name."""
    if part.stem == "drums":
        return Kit(rng, rate)
    if part.program in (38, 39):
        return SynthBass(rng, rate)
    if part.program in (4, 5):
        return Modulated(rng, rate)
    if part.program in (0, 1, 2, 3):
        mistuned = rng.uniform(8, 18) if part.program == 3 else 0.0
        return Struck(rng, rate, mistuned, electric=part.program == 2)
    return Plucked(rng.choice(PLUCKED[part.program]), rng, rate)


def render(part: Part, length: int, rate: float, rng: random.Random) -> np.ndarray:
    """The part as mono float32 [length] at `rate` Hz; a function of `part` and `rng` alone."""
    instrument = draw(part, rng, rate)
    held = _held(part, length / rate)
    is_drum = part.stem == "drums"
    tail = 5 * instrument.release
    sounds: dict[tuple[int, int, int], list[tuple[Note, float]]] = defaultdict(list)
    for k, (note, seconds) in enumerate(held):
        layer = note.velocity * LAYERS // 128
        seconds = instrument.longest if is_drum else min(instrument.longest, seconds + tail)
        sounds[note.pitch, layer, k % TAKES].append((note, seconds))
    bends = _bends(part)
    out = np.zeros(length + 1, np.float32)
    fade = np.exp(-np.arange(round(tail * rate) + 1) / (instrument.release * rate))
    fade = ((fade - fade[-1]) / (1 - fade[-1])).astype(np.float32)
    for (pitch, layer, take), plays in sounds.items():
        middle = (layer + 0.5) / LAYERS
        longest = max(seconds for _, seconds in plays)
        sound = instrument.note(pitch, middle, longest, take).astype(np.float32)
        for note, seconds in plays:
            wave = sound[: round(seconds * rate)]
            warp = _bent(note, seconds, bends, rate)
            wave = wave if warp is None else np.interp(warp, np.arange(len(sound)), sound, right=0)
            first = round(note.start * rate)
            wave = wave[: max(0, length - first)] * np.float32((note.velocity / 127) / middle)
            if not is_drum:
                stop = max(0, round((seconds - tail) * rate))
                wave[stop : stop + len(fade)] *= fade[: max(0, len(wave) - stop)]
                wave[stop + len(fade) :] = 0
            out[first : first + len(wave)] += wave
    low_cut = butter(2, LOW_CUT, "highpass", fs=rate, output="sos")
    return sosfilt(low_cut, out[:length]).astype(np.float32)


def _held(part: Part, seconds: float) -> list[tuple[Note, float]]:
    """The notes that start before `seconds`, with how long each is held by hand or pedal."""
    pedal = [c for c in sorted(part.controls, key=lambda c: c.time) if c.kind == "sustain"]
    spans, down = [], None
    for control in pedal:
        if control.value >= 64 and down is None:
            down = control.time
        elif control.value < 64 and down is not None:
            spans.append((down, control.time))
            down = None
    held = []
    for note, until in without_overlap(part.notes):
        if note.start >= seconds:
            continue
        for span in spans:
            if span[0] <= until < span[1]:
                until = span[1]
                break
        held.append((note, until - note.start))
    return held


def _bends(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Times and semitones of the pitch bends, in order of time."""
    bends = sorted((c.time, c.value) for c in part.controls if c.kind == "bend")
    table = np.array(bends or [(0.0, 0.0)])
    return table[:, 0], table[:, 1]


def _bent(
    note: Note, seconds: float, bends: tuple[np.ndarray, np.ndarray], rate: float
) -> np.ndarray | None:
    """Where in the unbent sound each sample of the note is; None where it is not bent."""
    times, values = bends
    first, last = np.searchsorted(times, [note.start, note.start + seconds])
    if not np.any(values[max(0, first - 1) : last]):
        return None
    moments = note.start + np.arange(round(seconds * rate)) / rate
    before = np.searchsorted(times, moments, "right") - 1
    semitones = np.where(before >= 0, values[before], 0.0)
    return np.concatenate([[0.0], np.cumsum(2 ** (semitones[:-1] / 12))])
