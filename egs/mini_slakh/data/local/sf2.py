"""SoundFont 2 files as samples, zones and presets; numpy arrays in, one file out, and back."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sf2_format
from sf2_format import DEFAULTS, EXCLUSIVE, INSTRUMENT, KEYS, LOOPS, ROOT_KEY, SAMPLE, VELOCITIES

# Of a preset's zone, not added to the instrument's (section 8.5 of the specification)
NOT_ADDED = (0, 1, 2, 3, 4, 12, 45, 46, 47, 50, LOOPS, EXCLUSIVE, ROOT_KEY)


@dataclass(frozen=True, eq=False)
class Sample:
    """A recording: int16 [time] at `rate` Hz that sounds `root` (a MIDI note) less `cents`, SF2's
    correction, which is added when it is played. `loop` is [first, last) in samples."""

    name: str
    data: np.ndarray
    rate: int
    root: int
    cents: int = 0
    loop: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Zone:
    """The keys and velocities (both ends included) that play `sample`; `generators` are SF2's."""

    sample: Sample
    keys: tuple[int, int] = (0, 127)
    velocities: tuple[int, int] = (0, 127)
    generators: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Preset:
    name: str
    bank: int
    program: int
    zones: tuple[Zone, ...]


def write(path: Path, name: str, presets: list[Preset]) -> None:
    """Write a SoundFont 2.01 file whole or not at all. ValueError if a sample does not fit."""
    presets = sorted(presets, key=lambda preset: (preset.bank, preset.program))
    instruments = list({id(p.zones): p.zones for p in presets}.values())
    samples = list({id(z.sample): z.sample for zones in instruments for z in zones}.values())
    sample_number = {id(sample): k for k, sample in enumerate(samples)}
    number = {id(zones): k for k, zones in enumerate(instruments)}
    headers = np.zeros(len(samples), sf2_format.SAMPLE_RECORD)
    for row, sample in zip(headers, samples, strict=True):
        if sample.data.dtype != np.int16 or sample.data.ndim != 1 or len(sample.data) < 48:
            raise ValueError(f"sample {sample.name}: expected int16 [time], at least 48 samples")
        first, last = sample.loop or (0, len(sample.data))
        if not 0 <= first < last <= len(sample.data):
            raise ValueError(f"sample {sample.name}: loop {sample.loop} is outside it")
        row["name"], row["end"] = sf2_format.encoded(sample.name), len(sample.data)
        row["loop"], row["loop_end"], row["rate"] = first, last, sample.rate
        row["root"], row["cents"], row["kind"] = sample.root, sample.cents, 1  # mono
    data = sf2_format.pack(
        name,
        [(p.name, p.program, p.bank, [{INSTRUMENT: number[id(p.zones)]}]) for p in presets],
        [[_generators(z, sample_number[id(z.sample)]) for z in zones] for zones in instruments],
        headers,
        [sample.data for sample in samples],
    )
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def read(path: Path) -> list[Preset]:
    """The presets of a file with their zones, each with the generators that apply to it (section
    9.4: preset generators are added to the instrument's). ValueError if it is not SoundFont 2."""
    try:
        font = sf2_format.Font(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    samples = [_sample(row, font.samples) for row in font.headers[:-1]]
    zones_of = [font.instrument_zones(k) for k in range(len(font.instruments) - 1)]
    presets = []
    for k, row in enumerate(font.presets[:-1]):
        zones = [
            zone
            for above in font.preset_zones(k)
            for below in zones_of[above[INSTRUMENT]]
            if (zone := _merge(above, below, samples)) is not None
        ]
        presets.append(
            Preset(_text(row["name"]), int(row["bank"]), int(row["program"]), tuple(zones))
        )
    return presets


def _merge(above: sf2_format.Zone, below: sf2_format.Zone, samples: list[Sample]) -> Zone | None:
    spans = []
    for kind in (KEYS, VELOCITIES):
        lows, highs = zip(*(sf2_format.bounds(zone, kind) for zone in (above, below)), strict=True)
        spans.append((max(lows), min(127, *highs)))
    if any(low > high for low, high in spans):
        return None
    merged = dict(below)
    for kind, amount in above.items():
        if kind not in NOT_ADDED:
            amount += merged.get(kind, DEFAULTS.get(kind, 0))
            merged[kind] = max(-32768, min(32767, amount))
    for kind in (INSTRUMENT, KEYS, VELOCITIES, SAMPLE):
        merged.pop(kind, None)
    return Zone(samples[below[SAMPLE]], spans[0], spans[1], merged)


def _sample(row: np.void, pool: np.ndarray) -> Sample:
    start, end = int(row["start"]), int(row["end"])
    loop = (int(row["loop"]) - start, int(row["loop_end"]) - start)
    good = 0 <= loop[0] < loop[1] <= end - start
    root = int(row["root"]) if row["root"] < 128 else 60
    return Sample(
        _text(row["name"]), pool[start:end], int(row["rate"]), root, int(row["cents"]),
        loop if good else None,
    )  # fmt: skip


def _generators(zone: Zone, sample: int) -> sf2_format.Zone:
    generators = zone.generators | {SAMPLE: sample}
    for kind, (low, high) in ((KEYS, zone.keys), (VELOCITIES, zone.velocities)):
        if not 0 <= low <= high <= 127:
            raise ValueError(f"keys or velocities {low} to {high}: expected 0 to 127")
        sf2_format.set_bounds(generators, kind, low, high)
    return generators


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode("latin-1")
