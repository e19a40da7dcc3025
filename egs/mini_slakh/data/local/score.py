"""Notes, parts, bars and songs. Times are in seconds, steps in sixteenths of a 4/4 bar."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

from harmony import Chord

STEMS = ("bass", "drums", "guitar", "piano")


@dataclass(frozen=True)
class Note:
    start: float
    duration: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Control:
    """The pedal ("sustain", 0..127) or a pitch bend ("bend", semitones in [-2, 2]) at `time`."""

    time: float
    kind: str
    value: float


@dataclass(frozen=True)
class Part:
    """One instrument: its stem, General MIDI program (a kit number for drums) and what it plays."""

    stem: str
    program: int
    styles: tuple[str, ...]
    notes: tuple[Note, ...]
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True)
class Song:
    seed: int
    seconds: float
    bpm: float
    key: int
    mode: str
    beats_per_bar: int
    parts: tuple[Part, ...]
    silent: dict[
        str, tuple[tuple[float, float], ...]
    ]  # per stem, the spans in which its player rests


@dataclass(frozen=True)
class Event:
    """A note on the grid: `step` and `length` in sixteenths, `accent` added to the velocity,
    `delay` in seconds (strummed strings), `bend` in semitones below its pitch, where it starts."""

    step: float
    length: float
    pitch: int
    accent: int = 0
    delay: float = 0.0
    bend: float = 0.0


@dataclass(frozen=True)
class Bar:
    """What a player sees of one bar. `chords` holds (first step, chord); the first is at step 0."""

    index: int
    steps: int
    chords: tuple[tuple[int, Chord], ...]
    next_chord: Chord
    opens_section: bool
    closes_section: bool
    intensity: float

    def chord_at(self, step: float) -> Chord:
        chord = self.chords[0][1]
        for first, candidate in self.chords:
            if step >= first:
                chord = candidate
        return chord


@dataclass(frozen=True)
class Groove:
    """Where the steps of each bar fall: a drifting tempo, and swing on the offbeats."""

    starts: tuple[float, ...]
    steps: int
    swing_eighths: float = 0.0
    swing_sixteenths: float = 0.0

    def at(self, bar: int, step: float) -> float:
        length = (self.starts[bar + 1] - self.starts[bar]) / self.steps
        late = 0.0
        if step % 4 == 2:
            late = self.swing_eighths * 2
        elif step % 2 == 1:
            late = self.swing_sixteenths
        return self.starts[bar] + (step + late) * length


@dataclass
class Hand:
    """A player's touch: turns grid events into humanised notes."""

    rng: random.Random
    velocity: float
    looseness: float  # standard deviation of the onset, seconds
    rush: float  # constant offset, seconds: ahead of or behind the beat
    notes: list[Note] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)

    def play(self, events: list[Event], bar: Bar, groove: Groove) -> None:
        step = (groove.starts[bar.index + 1] - groove.starts[bar.index]) / bar.steps
        for event in events:
            start = groove.at(bar.index, event.step) + event.delay + self.rush
            start = max(0.0, start + self.rng.gauss(0.0, self.looseness))
            loud = self.velocity + event.accent + 24 * (bar.intensity - 0.5) + self.rng.gauss(0, 5)
            velocity = int(min(127, max(20, loud)))
            self.notes.append(Note(start, max(0.04, event.length * step), event.pitch, velocity))
            if event.bend:
                slide = min(0.15, 0.4 * event.length * step)
                self.controls.append(Control(max(0.0, start - 0.001), "bend", -event.bend))
                for k in range(1, 7):
                    rise = -event.bend * (1 - k / 6)
                    self.controls.append(Control(start + slide * k / 6, "bend", rise))

    def pedal(self, bar: Bar, groove: Groove) -> None:
        """Sustain pedal down just after each chord change, up just before the next."""
        firsts = [first for first, _ in bar.chords] + [bar.steps]
        for first, last in pairwise(firsts):
            down = groove.at(bar.index, first) + 0.03
            up = max(down + 0.02, groove.at(bar.index, last) - 0.03)
            self.controls += [Control(down, "sustain", 127), Control(up, "sustain", 0)]
