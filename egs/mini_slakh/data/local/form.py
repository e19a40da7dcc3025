"""The form of a song: tempo, sections and who rests in them, and the chords of every bar."""

from __future__ import annotations

import random
from dataclasses import dataclass

import harmony
from harmony import Chord
from score import STEMS, Bar, Groove

COLOURS = (
    ("triad",), ("triad",), ("triad", "triad", "seventh"),
    ("seventh",), ("seventh", "ninth"), ("triad", "sus"),
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    first_bar: int
    bars: int
    label: str
    intensity: float
    resting: frozenset[str]


def draw_groove(rng: random.Random, bpm: float, steps: int, seconds: float) -> Groove:
    starts, drift = [0.0], 0.0
    while starts[-1] < seconds:
        drift = 0.8 * drift + rng.gauss(0, 0.004)
        starts.append(starts[-1] + steps / 4 * 60 / bpm * (1 + drift))
    feel = rng.random()
    eighths = rng.uniform(0.15, 0.33) if feel < 0.22 else 0.0
    sixteenths = rng.uniform(0.15, 0.35) if 0.22 <= feel < 0.36 and bpm < 120 else 0.0
    return Groove(tuple(starts), steps, eighths, sixteenths)


def draw_form(rng: random.Random, total: int) -> list[Section]:
    """Sections of 2, 4 or 8 bars; most stems rest in one or two, at most a third of them."""
    spans, first = [], 0
    while first < total:
        bars = min(total - first, rng.choice((2, 4, 4, 4, 8)))
        spans.append((first, bars, rng.choice("AABBC"), rng.uniform(0.2, 0.9)))
        first += bars
    resting: list[set[str]] = [set() for _ in spans]
    for stem in STEMS:
        count = min(max(1, len(spans) // 3), rng.choice((0, 1, 1, 1, 2, 2)))
        for place in rng.sample(range(len(spans)), count if len(spans) > 1 else 0):
            resting[place].add(stem)
    for here in resting:
        if len(here) == len(STEMS):
            here.discard(rng.choice(STEMS))
    return [Section(*span, frozenset(here)) for span, here in zip(spans, resting, strict=True)]


def draw_bars(
    rng: random.Random, sections: list[Section], key: int, mode: str, steps: int
) -> list[Bar]:
    progressions = {label: harmony.draw_progression(rng) for label in "ABC"}
    colours = rng.choice(COLOURS)
    halves = rng.choice((0.0, 0.0, 0.15, 0.4))
    lift = rng.choice((0, 0, 0, 0, 1, 2))  # the last third may modulate upwards
    plan: list[list[tuple[int, Chord]]] = []
    for number, section in enumerate(sections):
        tonic = (key + (lift if number >= 2 * len(sections) / 3 else 0)) % 12
        degrees = progressions[section.label]
        for k in range(section.bars):
            chord = harmony.diatonic_chord(
                tonic, mode, degrees[k % len(degrees)], rng.choice(colours)
            )
            plan.append([(0, chord)])
            if rng.random() < halves:
                other = harmony.diatonic_chord(
                    tonic, mode, rng.choice((0, 1, 3, 4, 5)), rng.choice(colours)
                )
                plan[-1].append((8, other))
    bars = []
    for section in sections:
        for k in range(section.bars):
            index = section.first_bar + k
            following = plan[(index + 1) % len(plan)][0][1]
            swell = section.intensity + 0.08 * (k / section.bars)
            bars.append(
                Bar(
                    index,
                    steps,
                    tuple(plan[index]),
                    following,
                    k == 0,
                    k == section.bars - 1,
                    swell,
                )
            )
    return bars
