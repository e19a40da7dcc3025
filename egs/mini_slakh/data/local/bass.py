"""Bass styles: each maps a bar to grid events; pitches in E1..G3 (28..55)."""

from __future__ import annotations

import random
from collections.abc import Callable

from score import Bar, Event

LOW = 28
Style = Callable[[Bar, random.Random], list[Event]]


def _root(bar: Bar, step: float = 0) -> int:
    return bar.chord_at(step).near(LOW)


def root_eighths(bar: Bar, rng: random.Random) -> list[Event]:
    short = rng.choice((1.0, 1.4, 1.9))
    return [Event(s, short, _root(bar, s), 6 if s % 4 == 0 else 0) for s in range(0, bar.steps, 2)]


def octaves(bar: Bar, rng: random.Random) -> list[Event]:
    return [Event(s, 1.6, _root(bar, s) + 12 * (s // 2 % 2), 4) for s in range(0, bar.steps, 2)]


def walking(bar: Bar, rng: random.Random) -> list[Event]:
    """Quarter notes: root, chord and scale tones, and a half step or fifth into the next root."""
    line: list[int] = []
    for step in range(0, bar.steps, 4):
        chord = bar.chord_at(step)
        if step in {first for first, _ in bar.chords}:
            line.append(chord.near(LOW))
        elif step == bar.steps - 4:
            target = bar.next_chord.near(LOW)
            line.append(target + rng.choice((-1, 1, 7, -2)))
        else:
            line.append(chord.near(LOW + 3, rng.choice((*chord.intervals[:3], 9))))
    events = [Event(4 * k, 3.7, max(LOW, p), 4 * (k % 2)) for k, p in enumerate(line)]
    if rng.random() < 0.3:
        events.append(Event(bar.steps - 2, 1, events[-1].pitch, -12))
    return events


def syncopated(bar: Bar, rng: random.Random) -> list[Event]:
    picks = [(0, 3), (3, 3), (6, 2), (8, 3), (11, 3), (14, 2)]
    return [
        Event(s, n * 0.9, _root(bar, s) + rng.choice((0, 0, 0, 7, 12)), 8 if s == 0 else 0)
        for s, n in picks
        if s < bar.steps and (s == 0 or rng.random() < 0.8)
    ]


def root_fifth(bar: Bar, rng: random.Random) -> list[Event]:
    events = []
    for k, step in enumerate(range(0, bar.steps, 8 if bar.steps == 16 else 4)):
        root = _root(bar, step)
        events.append(Event(step, 5.5, root if k % 2 == 0 or rng.random() < 0.2 else root + 7, 5))
        if rng.random() < 0.4:
            events.append(Event(step + 6, 1.7, root, -6))
    return [e for e in events if e.step < bar.steps]


def long_notes(bar: Bar, rng: random.Random) -> list[Event]:
    ends = [first for first, _ in bar.chords[1:]] + [bar.steps]
    events = [
        Event(first, (end - first) * 0.97, chord.near(LOW))
        for (first, chord), end in zip(bar.chords, ends, strict=True)
    ]
    if rng.random() < 0.25:
        events.append(
            Event(bar.steps - 2, 1.8, bar.next_chord.near(LOW) + rng.choice((-2, -1, 2)), -4)
        )
    return events


def funk(bar: Bar, rng: random.Random) -> list[Event]:
    """Sixteenths with rests, ghost notes and popped octaves; the one is always played."""
    events = [Event(0, 1.5, _root(bar), 14)]
    for step in range(2, bar.steps):
        draw = rng.random()
        if draw < 0.22:
            events.append(Event(step, 0.9, _root(bar, step), 2))
        elif draw < 0.34:
            events.append(Event(step, 0.8, _root(bar, step) + 12, 16))
        elif draw < 0.42:
            events.append(Event(step, 0.35, _root(bar, step), -26))
        elif draw < 0.50:
            chord = bar.chord_at(step)
            events.append(Event(step, 0.9, chord.near(LOW + 4, rng.choice((10, 7, 5, 3))), 0))
    return events


def reggae(bar: Bar, rng: random.Random) -> list[Event]:
    """Leaves the one open now and then; heavy, long thirds and fifths."""
    picks = rng.choice(
        [[(0, 3), (4, 2), (6, 2), (10, 4)], [(2, 2), (4, 4), (8, 2), (10, 2), (12, 3)]]
    )
    events = []
    for k, (step, length) in enumerate(picks):
        chord = bar.chord_at(step)
        interval = (0, *chord.intervals[1:3])[k % 3]
        if step < bar.steps:
            events.append(Event(step, length * 0.85, chord.near(LOW, interval), 6))
    return events


def riff(bar: Bar, rng: random.Random) -> list[Event]:
    """A riff of scale tones: one of two shapes a key has, so that it comes back in later bars."""
    shape = random.Random(f"{bar.chords[0][1].scale}{bar.steps}{rng.getrandbits(1)}")
    events, step = [], 0
    while step < bar.steps:
        length = shape.choice((1, 2, 2, 2, 3, 4))
        index = 0 if step == 0 else shape.choice((0, 0, 2, 4, -1, 3, 6))
        if shape.random() < 0.85 or step == 0:
            chord = bar.chord_at(step)
            events.append(
                Event(step, length * 0.9, chord.scale_pitch(index, chord.near(LOW + 2)), 3)
            )
        step += length
    return events


def pumped_sixteenths(bar: Bar, rng: random.Random) -> list[Event]:
    return [
        Event(s, 0.85, _root(bar, s) + (12 if s % 4 == 2 else 0), 8 if s % 4 == 0 else -6)
        for s in range(bar.steps)
        if s % 4 != 0 or rng.random() < 0.7
    ]


STYLES: dict[str, Style] = {
    "root_eighths": root_eighths,
    "octaves": octaves,
    "walking": walking,
    "syncopated": syncopated,
    "root_fifth": root_fifth,
    "long_notes": long_notes,
    "funk": funk,
    "reggae": reggae,
    "riff": riff,
    "pumped_sixteenths": pumped_sixteenths,
}
PROGRAMS = {32: 2, 33: 5, 34: 3, 35: 2, 36: 1.5, 37: 1.5, 38: 1.5, 39: 1.5}
