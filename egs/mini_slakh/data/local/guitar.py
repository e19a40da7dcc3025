"""Guitar styles: strums, arpeggios, riffs and lines; pitches in E2..B5 (40..83)."""

from __future__ import annotations

import random
from collections.abc import Callable

from score import Bar, Event

Style = Callable[[Bar, random.Random], list[Event]]
STRUMS = (
    (0, 4, 6, 10, 12, 14), (0, 2, 4, 6, 8, 10, 12, 14), (0, 6, 8, 14), (0, 3, 6, 10, 12),
    (0, 4, 8, 12), (0, 4, 7, 8, 10, 12, 15), (0, 8), (0, 3, 4, 6, 8, 11, 12, 14),
)  # fmt: skip


def _shape(bar: Bar, step: float, count: int = 6) -> list[int]:
    """A six-string-like voicing: root on a low string, chord tones above it."""
    chord = bar.chord_at(step)
    return chord.voicing(chord.near(40), count, spread=1 if len(chord.intervals) > 2 else 0)


def _strum(
    bar: Bar, picks: list[int], ring: float, rng: random.Random, accent: int = 0
) -> list[Event]:
    events = []
    for k, step in enumerate(picks):
        until = picks[k + 1] if k + 1 < len(picks) else bar.steps
        up = step // 2 % 2 == 1
        strings = _shape(bar, step)
        strings = strings[:1:-1] if up else strings[rng.choice((0, 0, 1)) :]
        gap = rng.uniform(0.004, 0.018)
        for n, pitch in enumerate(strings):
            events.append(Event(step, (until - step) * ring, pitch, accent - 7 * up - n, n * gap))
    return events


def strum(bar: Bar, rng: random.Random) -> list[Event]:
    pattern = [s for s in rng.choice(STRUMS) if s < bar.steps]
    return _strum(bar, pattern, rng.choice((0.7, 0.95)), rng)


def chop(bar: Bar, rng: random.Random) -> list[Event]:
    """Short backbeat or offbeat chords (ska, reggae, funk)."""
    picks = rng.choice(((4, 12), (2, 6, 10, 14), (4, 7, 12, 15), (2, 3, 6, 10, 11, 14)))
    return _strum(bar, [s for s in picks if s < bar.steps], 0.25, rng, 5)


def whole_chords(bar: Bar, rng: random.Random) -> list[Event]:
    return _strum(bar, [first for first, _ in bar.chords], 0.98, rng, 4)


def scratch(bar: Bar, rng: random.Random) -> list[Event]:
    """Sixteenth-note funk: mostly muted strokes, some of them let ring."""
    events = []
    for step in range(bar.steps):
        strings = _shape(bar, step)[2:5]
        rings = rng.random() < 0.35
        if rng.random() < 0.75:
            for n, pitch in enumerate(strings if step % 2 == 0 else strings[::-1]):
                events.append(
                    Event(step, 0.8 if rings else 0.2, pitch + 12, 6 if rings else -25, n * 0.004)
                )
    return events


def arpeggio(bar: Bar, rng: random.Random) -> list[Event]:
    order = rng.choice(
        ((0, 1, 2, 3, 4, 3, 2, 1), (0, 2, 1, 3, 2, 4, 3, 1), (0, 2, 3, 4), (0, 3, 4, 5, 4, 3))
    )
    every, ring = rng.choice((1, 2, 2)), rng.choice((1.0, 2.5, 4.0))
    events = []
    for k, step in enumerate(range(0, bar.steps, every)):
        shape = _shape(bar, step)
        events.append(
            Event(step, every * ring, shape[order[k % len(order)] % len(shape)], 5 * (k == 0))
        )
    return events


def fingerpicking(bar: Bar, rng: random.Random) -> list[Event]:
    """Alternating thumb on the beats, fingers between them."""
    events = []
    for step in range(0, bar.steps, 2):
        shape = _shape(bar, step)
        if step % 4 == 0:
            events.append(Event(step, 3.8, shape[0] if step % 8 == 0 else shape[1], 4))
        if rng.random() < 0.65:
            events.append(Event(step + rng.choice((0, 0, 1)), 3, rng.choice(shape[2:]), -2))
    return [e for e in events if e.step < bar.steps]


def power_chords(bar: Bar, rng: random.Random) -> list[Event]:
    picks = rng.choice(
        (
            tuple(range(0, 16, 2)),
            (0, 6, 8, 14),
            (0, 3, 6, 8, 11, 14),
            (0, 2, 3, 4, 6, 8, 10, 11, 12, 14),
        )
    )
    events = []
    for step in picks:
        if step < bar.steps:
            root = bar.chord_at(step).near(40)
            length = rng.choice((1.0, 1.8))
            events += [
                Event(step, length, root + i, 6 if step % 4 == 0 else -4) for i in (0, 7, 12)
            ]
    return events


def gallop(bar: Bar, rng: random.Random) -> list[Event]:
    """Palm-muted low strings with chord stabs at chord changes."""
    events = _strum(bar, [first for first, _ in bar.chords], 0.12, rng, 8)
    for step in range(0, bar.steps):
        if step % 4 != 1 and step not in {first for first, _ in bar.chords}:
            events.append(Event(step, 0.6, bar.chord_at(step).near(40), -8 + 8 * (step % 4 == 0)))
    return events


def line(bar: Bar, rng: random.Random) -> list[Event]:
    """A lead line: scale steps with leaps, rests and bends into long notes."""
    events, step, index = [], 0, rng.randrange(0, 10)
    low = rng.choice((52, 55, 59, 64))
    while step < bar.steps:
        length = rng.choice((1, 1, 2, 2, 2, 3, 4, 6))
        chord = bar.chord_at(step)
        pitch = chord.scale_pitch(index, low)
        if rng.random() < 0.8 and pitch <= 86:
            bend = rng.choice((1.0, 2.0, 2.0)) if length >= 3 and rng.random() < 0.35 else 0.0
            events.append(Event(step, length * 0.95, pitch, 8, 0.0, bend))
        index = min(14, max(-2, index + rng.choice((-3, -2, -1, -1, 1, 1, 2, 4))))
        step += length
    return events


def double_stops(bar: Bar, rng: random.Random) -> list[Event]:
    events, step, index = [], 0, rng.randrange(0, 7)
    while step < bar.steps:
        length = rng.choice((2, 2, 4, 4, 6))
        chord = bar.chord_at(step)
        if rng.random() < 0.8:
            events += [
                Event(step, length * 0.9, chord.scale_pitch(index + gap, 57), 4) for gap in (0, 2)
            ]
        index = min(9, max(0, index + rng.choice((-1, 1, 2, -2))))
        step += length
    return events


STYLES: dict[str, Style] = {
    "strum": strum,
    "chop": chop,
    "whole_chords": whole_chords,
    "scratch": scratch,
    "arpeggio": arpeggio,
    "fingerpicking": fingerpicking,
    "power_chords": power_chords,
    "gallop": gallop,
    "line": line,
    "double_stops": double_stops,
}
PROGRAMS = {24: 2, 25: 4, 26: 2.5, 27: 3.5, 28: 1.5, 29: 2.5, 30: 3, 31: 0.4}
