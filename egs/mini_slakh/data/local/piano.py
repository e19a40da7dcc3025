"""Piano styles: chords, broken chords, stride, melodies; pitches in A1..C7 (33..96)."""

from __future__ import annotations

import random
from collections.abc import Callable

from score import Bar, Event

Style = Callable[[Bar, random.Random], list[Event]]


def _right(bar: Bar, step: float, rng: random.Random) -> list[int]:
    """Three or four chord tones around middle C, in whichever inversion fits."""
    chord = bar.chord_at(step)
    return chord.voicing(rng.choice((55, 57, 60)), min(4, max(3, len(chord.intervals))))


def _left(bar: Bar, step: float) -> int:
    return bar.chord_at(step).near(36)


def _chords(
    bar: Bar, picks: list[int], ring: float, rng: random.Random, accent: int = 0
) -> list[Event]:
    events = []
    for k, step in enumerate(picks):
        until = picks[k + 1] if k + 1 < len(picks) else bar.steps
        for pitch in _right(bar, step, rng):
            events.append(Event(step, (until - step) * ring, pitch, accent, rng.uniform(0, 0.008)))
    return events


def block(bar: Bar, rng: random.Random) -> list[Event]:
    picks = rng.choice(((0,), (0, 8), (0, 4, 8, 12)))
    events = _chords(bar, [s for s in picks if s < bar.steps], rng.choice((0.6, 0.95)), rng)
    return events + [Event(first, 7, _left(bar, first), -2) for first, _ in bar.chords]


def comp(bar: Bar, rng: random.Random) -> list[Event]:
    """Syncopated right-hand chords, left hand free."""
    picks = rng.choice(((0, 6, 10), (2, 6, 12), (0, 3, 8, 14), (4, 10), (6, 14), (0, 7)))
    return _chords(bar, [s for s in picks if s < bar.steps], rng.choice((0.3, 0.8)), rng, 3)


def pumping(bar: Bar, rng: random.Random) -> list[Event]:
    """Eighth-note chords over left-hand octaves."""
    events = _chords(bar, list(range(0, bar.steps, 2)), 0.7, rng, -2)
    for step in range(0, bar.steps, 8):
        events += [Event(step, 6, _left(bar, step) - shift, 4) for shift in (0, 12)]
    return [e for e in events if e.pitch >= 28]


def broken(bar: Bar, rng: random.Random) -> list[Event]:
    order = rng.choice(
        ((0, 1, 2, 3), (0, 2, 1, 2), (0, 1, 2, 1), (3, 2, 1, 0), (0, 1, 2, 3, 4, 3, 2, 1))
    )
    every, low = rng.choice((1, 2, 2)), rng.choice((48, 55, 60))
    events = [Event(first, 8, _left(bar, first), 2) for first, _ in bar.chords]
    for k, step in enumerate(range(0, bar.steps, every)):
        tones = bar.chord_at(step).voicing(low, 5)
        events.append(Event(step, every * rng.choice((1.0, 1.8)), tones[order[k % len(order)]], -2))
    return events


def stride(bar: Bar, rng: random.Random) -> list[Event]:
    events = []
    for k, step in enumerate(range(0, bar.steps, 4)):
        if k % 2 == 0:
            events += [Event(step, 2.5, _left(bar, step) - rng.choice((0, 12)), 6)]
        else:
            events += [Event(step, 2, p, -6) for p in bar.chord_at(step).voicing(52, 3)]
    return events + [e for e in melody_line(bar, rng, 67) if rng.random() < 0.8]


def ballad(bar: Bar, rng: random.Random) -> list[Event]:
    """Quarter-note chords, a low octave, and a slow tune on top."""
    events = _chords(bar, list(range(0, bar.steps, 4)), 0.95, rng, -10)
    for first, _ in bar.chords:
        events += [Event(first, 7.5, max(28, _left(bar, first) - shift), -4) for shift in (0, 12)]
    return events + melody_line(bar, rng, 72, slow=True)


def melody_line(bar: Bar, rng: random.Random, low: int, slow: bool = False) -> list[Event]:
    events, step, index = [], 0, rng.randrange(0, 7)
    while step < bar.steps:
        length = rng.choice((4, 4, 6, 8)) if slow else rng.choice((1, 2, 2, 2, 4, 4))
        if rng.random() < 0.8:
            events.append(
                Event(step, length * 0.98, bar.chord_at(step).scale_pitch(index, low), 10)
            )
        index = min(11, max(-3, index + rng.choice((-3, -2, -1, -1, 1, 1, 2, 3))))
        step += length
    return events


def melody(bar: Bar, rng: random.Random) -> list[Event]:
    events = melody_line(bar, rng, rng.choice((60, 67, 72)))
    for first, chord in bar.chords:
        events += [Event(first, 7.5, p, -8) for p in chord.voicing(48, 3)]
    return events


def octave_melody(bar: Bar, rng: random.Random) -> list[Event]:
    tune = melody_line(bar, rng, 64)
    return tune + [Event(e.step, e.length, e.pitch + 12, e.accent - 4) for e in tune]


def montuno(bar: Bar, rng: random.Random) -> list[Event]:
    """Latin offbeat pattern: octaves and inner thirds in alternation."""
    events = []
    for k, step in enumerate((0, 3, 4, 6, 7, 10, 11, 14, 15)):
        if step < bar.steps:
            tones = bar.chord_at(step).voicing(60, 4)
            picked = (tones[0], tones[0] + 12) if k % 2 == 0 else tones[1:3]
            events += [Event(step, 1.2, p, 4) for p in picked]
    return events


STYLES: dict[str, Style] = {
    "block": block,
    "comp": comp,
    "pumping": pumping,
    "broken": broken,
    "stride": stride,
    "ballad": ballad,
    "melody": melody,
    "octave_melody": octave_melody,
    "montuno": montuno,
}
PROGRAMS = {0: 5, 1: 2.5, 2: 1.5, 3: 1, 4: 2, 5: 2, 6: 0.7, 7: 0.9}
