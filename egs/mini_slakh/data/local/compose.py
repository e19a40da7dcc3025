"""Procedural composer: one integer seed -> one Song for bass, drums, guitar and piano.

Nothing is learnt and nothing is quoted: keys, forms, grooves and playing styles are drawn from
small tables. The song is a function of (seed, seconds) alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import bass
import drums
import guitar
import harmony
import piano
from harmony import Chord
from score import STEMS, Bar, Groove, Hand, Part, Song

PLAYERS = {"bass": bass, "guitar": guitar, "piano": piano}
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


def compose(seed: int, seconds: float) -> Song:
    """Compose `seconds` of music; random.Random(seed) is the only source of chance."""
    rng = random.Random(seed)
    bpm = min(176.0, max(62.0, rng.gauss(112, 24)))
    steps = 16 if rng.random() < 0.88 else 12
    groove = _draw_groove(rng, bpm, steps, seconds)
    sections = _draw_form(rng, len(groove.starts) - 1)
    key, mode = rng.randrange(12), harmony.draw_mode(rng)
    bars = _draw_bars(rng, sections, key, mode, steps)
    line_up = ["bass", "drums", "guitar", "piano"]
    line_up += ["guitar"] if rng.random() < 0.3 else []
    line_up += ["piano"] if rng.random() < 0.15 else []
    parts = tuple(
        _play(random.Random(rng.getrandbits(64)), stem, bars, sections, groove) for stem in line_up
    )
    silent = {stem: _rests(stem, sections, groove) for stem in STEMS}
    return Song(seed, seconds, bpm, key, mode, steps // 4, parts, silent)


def _draw_groove(rng: random.Random, bpm: float, steps: int, seconds: float) -> Groove:
    starts, drift = [0.0], 0.0
    while starts[-1] < seconds:
        drift = 0.8 * drift + rng.gauss(0, 0.004)
        starts.append(starts[-1] + steps / 4 * 60 / bpm * (1 + drift))
    feel = rng.random()
    eighths = rng.uniform(0.15, 0.33) if feel < 0.22 else 0.0
    sixteenths = rng.uniform(0.15, 0.35) if 0.22 <= feel < 0.36 and bpm < 120 else 0.0
    return Groove(tuple(starts), steps, eighths, sixteenths)


def _draw_form(rng: random.Random, total: int) -> list[Section]:
    """Sections of 2, 4 or 8 bars with an intensity each; every stem rests in some, at most a third of them."""
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


def _draw_bars(
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


def _play(
    rng: random.Random, stem: str, bars: list[Bar], sections: list[Section], groove: Groove
) -> Part:
    hand = Hand(rng, rng.uniform(62, 100), rng.choice((0.002, 0.005, 0.009)), rng.gauss(0, 0.004))
    if stem == "drums":
        program = _draw_program(rng, drums.KITS)
        beats = rng.sample(list(drums.BEATS), 2)
        patterns = {label: drums.draw_beat(rng.choice(beats), rng) for label in "ABC"}
        for section, here in _sounding(stem, bars, sections):
            for bar in here:
                hand.play(drums.play_beat(patterns[section.label], bar, rng), bar, groove)
        return Part(stem, program, tuple(beats), tuple(hand.notes), tuple(hand.controls))
    player = PLAYERS[stem]
    program = _draw_program(rng, player.PROGRAMS)
    styles = rng.sample(list(player.STYLES), 3)
    by_label = {label: rng.choice(styles) for label in "ABC"}
    pedalled = stem == "piano" and program <= 5 and rng.random() < 0.45
    for section, here in _sounding(stem, bars, sections):
        style = player.STYLES[by_label[section.label]]
        habit = rng.getrandbits(32)  # most bars of a section repeat their pattern, some vary it
        for bar in here:
            choices = random.Random(habit) if rng.random() < 0.6 else rng
            hand.play(style(bar, choices), bar, groove)
            if pedalled:
                hand.pedal(bar, groove)
    used = tuple(sorted(set(by_label.values())))
    return Part(stem, program, used, tuple(hand.notes), tuple(hand.controls))


def _sounding(
    stem: str, bars: list[Bar], sections: list[Section]
) -> list[tuple[Section, list[Bar]]]:
    return [
        (section, bars[section.first_bar : section.first_bar + section.bars])
        for section in sections
        if stem not in section.resting
    ]


def _rests(stem: str, sections: list[Section], groove: Groove) -> tuple[tuple[float, float], ...]:
    return tuple(
        (groove.starts[s.first_bar], groove.starts[s.first_bar + s.bars])
        for s in sections
        if stem in s.resting
    )


def _draw_program(rng: random.Random, weights: dict[int, float]) -> int:
    return rng.choices(list(weights), list(weights.values()))[0]
