"""Drum patterns: kicks, snares and timekeeping on the sixteenth grid; fills close the sections."""

from __future__ import annotations

import random
from dataclasses import dataclass

from score import Bar, Event

KICK, STICK, SNARE, CLAP, SNARE_2 = 36, 37, 38, 39, 40
HAT, PEDAL, OPEN, RIDE, BELL = 42, 44, 46, 51, 53
CRASHES = (49, 57, 55)
TOMS = (50, 48, 47, 45, 43, 41)
HAND = (54, 56, 69, 70)  # tambourine, cowbell, cabasa, maracas


@dataclass(frozen=True)
class Beat:
    kicks: tuple[int, ...]
    snares: tuple[int, ...]
    snare: int
    ticks: tuple[int, ...]
    tick: int
    ghosts: float
    offbeat_open: float
    hand: int | None


BEATS: dict[
    str, tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...], tuple[int, ...]]
] = {
    # name: (kick patterns, snare patterns, spacing of the ticks in sixteenths)
    "rock": (((0, 8), (0, 8, 10), (0, 6, 8), (0, 2, 8, 10), (0, 7, 8, 10)), ((4, 12),), (2, 2, 4)),
    "pop": (((0, 6, 8), (0, 3, 8, 11), (0, 10), (0, 6, 10)), ((4, 12), (4, 12, 15)), (2, 1)),
    "four_on_the_floor": (((0, 4, 8, 12),), ((4, 12), (12,)), (2, 1, 4)),
    "funk": (
        ((0, 3, 6, 10), (0, 2, 7, 10), (0, 7, 10, 13)),
        ((4, 12), (4, 9, 12), (4, 7, 12, 15)),
        (1, 2),
    ),
    "half_time": (((0, 10), (0, 3), (0, 6, 14)), ((8,),), (2, 1, 4)),
    "swing": (((0,), (0, 8), (0, 10)), ((), (12,), (4, 12)), (4,)),
    "latin": (((0, 6, 8, 14), (0, 7, 8, 15)), ((3, 6, 12), (0, 3, 6, 10, 12)), (2, 1)),
    "reggae": (((8,), (0, 8), (0, 4, 8, 12)), ((8,),), (2, 4)),
    "breakbeat": (((0, 2, 10, 11), (0, 2, 10)), ((4, 7, 9, 12, 15), (4, 9, 14)), (2,)),
    "ballad": (((0, 8), (0, 7, 8)), ((4, 12),), (2, 4)),
    "train": (((0, 4, 8, 12), (0, 8)), ((2, 3, 6, 7, 10, 11, 14, 15),), (4, 2)),
    "sparse": (((0,), (0, 8)), ((12,), (8,), ()), (4, 8)),
}


def draw_beat(name: str, rng: random.Random) -> Beat:
    kicks, snares, spacing = BEATS[name]
    every = rng.choice(spacing)
    tick = rng.choice((HAT, HAT, HAT, HAT, RIDE, RIDE, OPEN, PEDAL, BELL))
    ticks = tuple(range(0, 16, every))
    if name == "swing":
        tick, ticks = rng.choice((RIDE, RIDE, HAT)), (0, 4, 6, 8, 12, 14)
    back = SNARE if rng.random() < 0.8 else rng.choice((STICK, CLAP, SNARE_2))
    if name in ("latin", "ballad", "reggae") and rng.random() < 0.5:
        back = STICK
    return Beat(
        kicks=rng.choice(kicks),
        snares=rng.choice(snares),
        snare=back,
        ticks=ticks,
        tick=tick,
        ghosts=rng.choice((0.0, 0.0, 0.05, 0.15)),
        offbeat_open=rng.choice((0.0, 0.0, 0.1, 0.5)),
        hand=rng.choice(HAND) if rng.random() < 0.12 else None,
    )


def play_beat(beat: Beat, bar: Bar, rng: random.Random) -> list[Event]:
    until = bar.steps
    if bar.closes_section and rng.random() < 0.8:
        until -= rng.choice((2, 4, 4, 8))
    elif rng.random() < 0.06:
        until -= rng.choice((2, 4))
    events = []
    if bar.opens_section and rng.random() < 0.7:
        events.append(Event(0, 2, rng.choice(CRASHES), 14))
    events += [
        Event(s, 1, KICK, 12 if s == 0 else 6)
        for s in beat.kicks
        if s < until and rng.random() < 0.97
    ]
    events += [
        Event(s, 1, beat.snare, 12) for s in beat.snares if s < until and rng.random() < 0.97
    ]
    for step in beat.ticks:
        if step < until and rng.random() < 0.96:
            is_open = beat.tick == HAT and step % 4 == 2 and rng.random() < beat.offbeat_open
            events.append(
                Event(step, 1, OPEN if is_open else beat.tick, 4 if step % 4 == 0 else -10)
            )
    if beat.ghosts:
        events += [
            Event(s, 1, SNARE, -36) for s in range(1, until, 2) if rng.random() < beat.ghosts
        ]
    if beat.hand is not None:
        events += [Event(s, 1, beat.hand, -14 + 8 * (s % 4 == 0)) for s in range(0, until, 2)]
    return events + _fill(until, bar.steps, rng)


def _fill(first: int, last: int, rng: random.Random) -> list[Event]:
    """Toms downwards, a snare roll, both, or one hit, in steps [first, last)."""
    kind = rng.choice(("toms", "snare", "mixed", "stop"))
    events = []
    for k, step in enumerate(range(first, last, rng.choice((1, 1, 2)))):
        tom = TOMS[min(len(TOMS) - 1, k * len(TOMS) // max(1, last - first))]
        drum = {
            "toms": tom,
            "snare": SNARE,
            "mixed": rng.choice((SNARE, tom, KICK)),
            "stop": SNARE,
        }[kind]
        if kind != "stop" or k == 0:
            events.append(Event(step, 1, drum, rng.randint(-8, 16)))
    return events


KITS = {0: 6, 8: 2, 16: 2, 24: 1, 25: 1, 32: 1.5, 40: 1}
