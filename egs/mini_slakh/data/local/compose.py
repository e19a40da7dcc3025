"""Procedural composer: one integer seed -> one Song for bass, drums, guitar and piano.

Nothing is learnt and nothing is quoted: keys, forms, grooves and playing styles are drawn from
small tables. The song is a function of (seed, seconds) alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from types import ModuleType

import bass
import drums
import form
import guitar
import harmony
import other
import piano
from form import Section
from patches import Programs
from score import STEMS, Bar, Groove, Hand, Part, Song

PLAYERS: dict[str, ModuleType] = {
    "bass": bass, "guitar": guitar, "piano": piano, "other": other
}  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """A song before anyone plays: its tempo, sections and chords."""

    bpm: float
    groove: Groove
    sections: list[Section]
    key: int
    mode: str
    bars: list[Bar]


def draft(rng: random.Random, seconds: float) -> Draft:
    bpm = min(176.0, max(62.0, rng.gauss(112, 24)))
    steps = 16 if rng.random() < 0.88 else 12
    groove = form.draw_groove(rng, bpm, steps, seconds)
    sections = form.draw_form(rng, len(groove.starts) - 1)
    key, mode = rng.randrange(12), harmony.draw_mode(rng)
    bars = form.draw_bars(rng, sections, key, mode, steps)
    return Draft(bpm, groove, sections, key, mode, bars)


def compose(seed: int, seconds: float, programs: Programs | None = None) -> Song:
    """Compose `seconds` of music; random.Random(seed) is the only source of chance.

    `programs` replaces the weights of the instruments of the stems that it names.
    """
    rng = random.Random(seed)
    plan = draft(rng, seconds)
    line_up = ["bass", "drums", "guitar", "piano"]
    line_up += ["guitar"] if rng.random() < 0.3 else []
    line_up += ["piano"] if rng.random() < 0.15 else []
    parts = tuple(play(random.Random(rng.getrandbits(64)), s, plan, programs) for s in line_up)
    silent = {stem: rests(stem, plan) for stem in STEMS}
    return Song(seed, seconds, plan.bpm, plan.key, plan.mode, plan.groove.steps // 4, parts, silent)


def play(rng: random.Random, stem: str, plan: Draft, programs: Programs | None = None) -> Part:
    """A part for one instrument of `stem`, which rests where the sections say so."""
    bars, sections, groove = plan.bars, plan.sections, plan.groove
    hand = Hand(rng, rng.uniform(62, 100), rng.choice((0.002, 0.005, 0.009)), rng.gauss(0, 0.004))
    player = PLAYERS.get(stem)
    own = player.PROGRAMS if player else drums.KITS
    program = _draw_program(rng, (programs or {}).get(stem, own))
    if player is None:
        beats = rng.sample(list(drums.BEATS), 2)
        patterns = {label: drums.draw_beat(rng.choice(beats), rng) for label in "ABC"}
        for section, here in _sounding(stem, bars, sections):
            for bar in here:
                hand.play(drums.play_beat(patterns[section.label], bar, rng), bar, groove)
        return Part(stem, program, tuple(beats), tuple(hand.notes), tuple(hand.controls))
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


def rests(stem: str, plan: Draft) -> tuple[tuple[float, float], ...]:
    """The spans, in seconds, in which the player of `stem` rests."""
    starts = plan.groove.starts
    return tuple(
        (starts[s.first_bar], starts[s.first_bar + s.bars])
        for s in plan.sections
        if stem in s.resting
    )


def _draw_program(rng: random.Random, weights: dict[int, float]) -> int:
    return rng.choices(list(weights), list(weights.values()))[0]
