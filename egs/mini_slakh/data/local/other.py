"""Styles of the fifth stem: strings, winds, organs, synthesisers, mallets and choirs."""

from __future__ import annotations

import random
from collections.abc import Callable

from piano import melody_line
from score import Bar, Event

Style = Callable[[Bar, random.Random], list[Event]]


def pad(bar: Bar, rng: random.Random) -> list[Event]:
    ends = [first for first, _ in bar.chords[1:]] + [bar.steps]
    low, count = rng.choice((48, 55, 60)), rng.choice((2, 3, 4))
    return [
        Event(first, (end - first) * 0.99, pitch)
        for (first, chord), end in zip(bar.chords, ends, strict=True)
        for pitch in chord.voicing(low, count)
    ]


def stabs(bar: Bar, rng: random.Random) -> list[Event]:
    picks = rng.choice(((0, 6), (2, 6, 10), (0, 3, 8, 11), (4, 12), (6, 14), (0,)))
    length = rng.choice((0.8, 1.6, 3.0))
    return [
        Event(step, length, pitch, 8)
        for step in picks
        if step < bar.steps
        for pitch in bar.chord_at(step).voicing(58, 3)
    ]


def tune(bar: Bar, rng: random.Random) -> list[Event]:
    return melody_line(bar, rng, rng.choice((55, 60, 67)))


def slow_tune(bar: Bar, rng: random.Random) -> list[Event]:
    return melody_line(bar, rng, rng.choice((55, 60, 67, 72)), slow=True)


def arpeggio(bar: Bar, rng: random.Random) -> list[Event]:
    every, low = rng.choice((1, 2)), rng.choice((55, 60))
    return [
        Event(step, every * 1.1, bar.chord_at(step).voicing(low, 4)[step // every % 4], -4)
        for step in range(0, bar.steps, every)
    ]


def long_line(bar: Bar, rng: random.Random) -> list[Event]:
    """One chord tone a chord, as a string section's upper voice."""
    ends = [first for first, _ in bar.chords[1:]] + [bar.steps]
    return [
        Event(first, (end - first) * 0.99, chord.near(64, rng.choice(chord.intervals)))
        for (first, chord), end in zip(bar.chords, ends, strict=True)
    ]


STYLES: dict[str, Style] = {
    "pad": pad,
    "stabs": stabs,
    "tune": tune,
    "slow_tune": slow_tune,
    "arpeggio": arpeggio,
    "long_line": long_line,
}
FAMILIES = {  # General MIDI programs and the weight of their family
    range(8, 15): 1.0,  # mallets and bells
    range(16, 24): 3.0,  # organs, accordions, harmonica
    range(40, 47): 2.0,  # bowed and plucked strings
    range(48, 52): 4.0,  # string sections
    range(52, 55): 2.0,  # choirs
    range(56, 64): 3.0,  # brass
    range(64, 72): 3.0,  # reeds
    range(72, 80): 2.0,  # flutes and pipes
    range(80, 88): 2.0,  # synthesiser leads
    range(88, 96): 2.0,  # synthesiser pads
    range(104, 112): 0.5,  # sitar, banjo, bagpipe, fiddle and others
}
PROGRAMS = {p: weight / len(family) for family, weight in FAMILIES.items() for p in family}
