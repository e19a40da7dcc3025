"""Procedural composer: one integer seed -> one Song for bass, drums, guitar and piano.

Nothing is learnt and nothing is quoted: keys, forms, grooves and playing styles are drawn from
small tables. The song is a function of (seed, seconds) alone.
"""

from __future__ import annotations

import random

import bass
import drums
import form
import guitar
import harmony
import piano
from form import Section
from score import STEMS, Bar, Groove, Hand, Part, Song

PLAYERS = {"bass": bass, "guitar": guitar, "piano": piano}


def compose(seed: int, seconds: float) -> Song:
    """Compose `seconds` of music; random.Random(seed) is the only source of chance."""
    rng = random.Random(seed)
    bpm = min(176.0, max(62.0, rng.gauss(112, 24)))
    steps = 16 if rng.random() < 0.88 else 12
    groove = form.draw_groove(rng, bpm, steps, seconds)
    sections = form.draw_form(rng, len(groove.starts) - 1)
    key, mode = rng.randrange(12), harmony.draw_mode(rng)
    bars = form.draw_bars(rng, sections, key, mode, steps)
    line_up = ["bass", "drums", "guitar", "piano"]
    line_up += ["guitar"] if rng.random() < 0.3 else []
    line_up += ["piano"] if rng.random() < 0.15 else []
    parts = tuple(
        _play(random.Random(rng.getrandbits(64)), stem, bars, sections, groove) for stem in line_up
    )
    silent = {stem: _rests(stem, sections, groove) for stem in STEMS}
    return Song(seed, seconds, bpm, key, mode, steps // 4, parts, silent)


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
