"""Another instrument from the same recordings: one preset of a SoundFont, its generators perturbed.

Pitches stay right (within the drawn fine tuning); drums alone are retuned, each key by itself.
"""

from __future__ import annotations

import random

import sf2_preset
from sf2_format import (
    ATTACK,
    ATTENUATION,
    COARSE,
    CUTOFF,
    DECAY,
    DEFAULTS,
    FINE,
    HOLD,
    KEYS,
    OPENING,
    OPENING_DECAY,
    OPENING_END,
    RELEASE,
    RESONANCE,
    SUSTAIN,
    VELOCITIES,
    VIBRATO,
    VIBRATO_DELAY,
    VIBRATO_RATE,
    Zone,
    bounds,
    set_bounds,
)
from sf2_preset import Preset

HEARD_CB = 2.5  # midirenderer attenuates by 0.4 of what is written


def vary(font: bytes, program: int, bank: int, rng: random.Random) -> bytes:
    """A font that has only the preset (program, bank) of `font`, varied by draws from `rng` alone.

    Tuned presets: notes come from samples up to 4 semitones away (a formant shift), from other
    velocity layers, through a lower, resonant, closing or touch-sensitive filter, with other
    envelopes, tuning and vibrato.
    Bank 128: each key has its own tuning, level, decay and filter. ValueError if `font` is not SF2.
    """
    preset = sf2_preset.read(font, program, bank)
    zones = [zone for some in preset.instruments for zone in some]
    if bank == 128:
        _vary_drums(preset, rng)
    else:
        if rng.random() < 0.8:
            step = rng.choice((-4, -3, -2, -1, 1, 2, 3, 4))
            _shift(preset.zones, KEYS, step)
            _shift(zones, KEYS, step)
        _vary_envelope(zones, rng)
        tuning = rng.uniform(-15, 15)
        uneven, salt = rng.uniform(0, 2), rng.random()
        vibrates, depth = rng.random() < 0.15, rng.randint(3, 9)
        rate, delay = rng.randint(-1200, 0), rng.randint(-2400, 0)
        for zone in zones:
            _add(zone, FINE, tuning)
            own = random.Random(f"{salt} {bounds(zone, KEYS)}")
            _add(zone, ATTENUATION, HEARD_CB * 10 * own.uniform(-uneven, uneven))
            if vibrates:
                zone |= {VIBRATO: depth, VIBRATO_DELAY: delay, VIBRATO_RATE: rate}
    if rng.random() < 0.6:
        step = rng.choice((-1, 1)) * rng.randint(8, 30)
        _shift(preset.zones, VELOCITIES, step)
        _shift(zones, VELOCITIES, step)
    _vary_filter(zones, rng, floor=9600 if bank == 128 else 8400)
    if bank != 128 and rng.random() < 0.2:
        _open_when_struck(zones, rng)
    if rng.random() < 0.35:
        wide = rng.uniform(500, 2400)
        preset.instruments = [_duller_when_soft(some, wide) for some in preset.instruments]
    return sf2_preset.write(preset, program, bank)


def _shift(zones: list[Zone], generator: int, step: int) -> None:
    """Move the ranges by `step`, the outermost ones without leaving a gap."""
    ranges = [bounds(zone, generator) for zone in zones]
    first, last = min(r[0] for r in ranges), max(r[1] for r in ranges)
    for zone, (low, high) in zip(zones, ranges, strict=True):
        low = min(low, low + step) if low == first else low + step
        high = max(high, high + step) if high == last else high + step
        if high >= 0 and low <= 127:
            set_bounds(zone, generator, max(0, low), min(127, high))


def _vary_envelope(zones: list[Zone], rng: random.Random) -> None:
    """Timecents: 1200 is a factor of two. Decay and sustain are set where draws say so."""
    attack = rng.uniform(-9500, -5800) if rng.random() < 0.25 else -12000
    decay = 1200 * rng.uniform(1.8, 4.3) if rng.random() < 0.35 else None  # 3.5 to 20 s for 100 dB
    slower, release = rng.uniform(-1000, 1000), rng.uniform(-1500, 1200)
    for zone in zones:
        zone[ATTACK] = round(max(_amount(zone, ATTACK), attack))
        if decay is not None:
            natural = _amount(zone, DECAY) if _amount(zone, SUSTAIN) >= 300 else decay
            zone[HOLD], zone[SUSTAIN] = -12000, 1000
            zone[DECAY] = round(min(natural, decay) if natural > 0 else decay)
        elif _amount(zone, DECAY) > -6000:
            _add(zone, DECAY, slower)
        zone[RELEASE] = round(min(1900, max(-4800, _amount(zone, RELEASE) + release)))


def _vary_filter(zones: list[Zone], rng: random.Random, floor: int) -> None:
    """Cents above 8.176 Hz; no cut-off goes below `floor` unless the font's own does."""
    if rng.random() < 0.6:
        lower, resonance = rng.uniform(-4200, 800), rng.uniform(-60, 60)
        for zone in zones:
            cutoff = _amount(zone, CUTOFF)
            zone[CUTOFF] = round(min(13500, max(min(cutoff, floor), cutoff + lower)))
            zone[RESONANCE] = round(max(0, _amount(zone, RESONANCE) + resonance))


def _open_when_struck(zones: list[Zone], rng: random.Random) -> None:
    """A filter that closes as the note sounds: an envelope of the cut-off."""
    wide, time, low = rng.uniform(1200, 3600), rng.uniform(-1500, 1800), rng.uniform(0, 800)
    for zone in zones:
        if _amount(zone, OPENING) == 0:
            zone[CUTOFF] = round(max(8400, _amount(zone, CUTOFF) - wide - low))
            zone[OPENING], zone[OPENING_DECAY] = round(wide), round(time)
            zone[OPENING_END] = 1000


def _duller_when_soft(zones: list[Zone], wide: float) -> list[Zone]:
    """Zones for all velocities split in three, the softer ones with a lower cut-off (cents)."""
    split = []
    for zone in zones:
        if bounds(zone, VELOCITIES) != (0, 127):
            split.append(zone)
            continue
        for low, high, closed in ((0, 63, 1.0), (64, 95, 0.4), (96, 127, 0.0)):
            layer = dict(zone)
            set_bounds(layer, VELOCITIES, low, high)
            cutoff = _amount(layer, CUTOFF)
            layer[CUTOFF] = round(max(min(cutoff, 8400), min(cutoff, 12000) - closed * wide))
            split.append(layer)
    return split


def _vary_drums(preset: Preset, rng: random.Random) -> None:
    salt, together = rng.random(), rng.uniform(-250, 250)
    apart, uneven = rng.uniform(0, 200), rng.uniform(0, 7)
    shortens, lengths = rng.random() < 0.3, rng.uniform(0.7, 3.0)
    nested = [zone for some in preset.instruments for zone in some]
    narrow = [_narrow(zone) for zone in preset.zones]
    for zone in [*(z for z, is_one in zip(preset.zones, narrow, strict=True) if is_one), *nested]:
        if zone in nested and all(narrow):
            continue  # the key is chosen by the preset's zone, whose amounts are added
        own = random.Random(f"{salt} {bounds(zone, KEYS)}")
        cents = round(together + own.uniform(-apart, apart))
        _add(zone, COARSE, cents // 100)
        _add(zone, FINE, cents % 100)
        _add(zone, ATTENUATION, HEARD_CB * 10 * own.uniform(-uneven, uneven))
        if shortens and zone in nested and _amount(zone, DECAY) < -6000:
            zone[DECAY], zone[SUSTAIN] = round(1200 * lengths * own.uniform(0.7, 1.3)), 1000


def _narrow(zone: Zone) -> bool:
    low, high = bounds(zone, KEYS)
    return high - low < 6


def _amount(zone: Zone, generator: int) -> int:
    return zone.get(generator, DEFAULTS.get(generator, 0))


def _add(zone: Zone, generator: int, amount: float) -> None:
    zone[generator] = _amount(zone, generator) + round(amount)
