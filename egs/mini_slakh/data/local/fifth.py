"""The fifth stem of a song: one or two instruments of no other stem, and a singer."""

from __future__ import annotations

import random
from dataclasses import replace

import compose
import voices
from piano import melody_line
from score import Hand, Part

STEM = "other"
SINGER = 54  # General MIDI "Synth Voice", for who plays the notes otherwise
REST = 0.25  # share of the sections in which one of the parts rests


def sounds(number: int, share: float) -> bool:
    """Whether song `number` is one of the `share` in which the stem is not silent."""
    return random.Random(f"fifth {number}").random() < share


def parts(number: int, seconds: float, share: float, sung: float) -> tuple[Part, ...]:
    """The parts of song `number`: in a `share` of the songs one or two, else none; a `sung` share
    of these songs has a singer. `seconds` as the song was composed with."""
    if not sounds(number, share):
        return ()
    rng = random.Random(f"other {number}")
    plan = compose.draft(random.Random(number), seconds)
    has_singer = rng.random() < sung
    count = rng.choice((0, 1, 1)) if has_singer else rng.choice((1, 1, 2))
    found = []
    for _ in range(count):
        one = random.Random(rng.getrandbits(64))
        found.append(compose.play(one, STEM, _with_rests(rng, plan)))
    if has_singer:
        found.append(_singer(rng, _with_rests(rng, plan)))
    return tuple(part for part in found if part.notes)


def _with_rests(rng: random.Random, plan: compose.Draft) -> compose.Draft:
    """Some sections, never all, rest."""
    resting = [rng.random() < REST for _ in plan.sections]
    if all(resting):
        resting[0] = False
    sections = [
        replace(section, resting=section.resting | ({STEM} if rests else set()))
        for section, rests in zip(plan.sections, resting, strict=True)
    ]
    return replace(plan, sections=sections)


def _singer(rng: random.Random, plan: compose.Draft) -> Part:
    """Phrases of one or two bars with breaths between them, in a low or a high voice."""
    hand = Hand(rng, rng.uniform(80, 105), 0.01, rng.gauss(0, 0.01))
    low = rng.choice((48, 50, 52, 59, 62, 64))
    for section in plan.sections:
        if STEM in section.resting:
            continue
        for bar in plan.bars[section.first_bar : section.first_bar + section.bars]:
            events = melody_line(bar, rng, low, slow=rng.random() < 0.6)
            if bar.index % 2 or rng.random() < 0.3:
                events = [event for event in events if event.step < bar.steps - 4]
            hand.play(events, bar, plan.groove)
    return Part(STEM, SINGER, (voices.STYLE,), tuple(hand.notes))
