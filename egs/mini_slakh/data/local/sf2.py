"""SoundFont 2 files as samples, zones and presets; numpy arrays in, one file out, and back.

Format: SoundFont Technical Specification 2.01 (E-mu, 1998), chapters 4 to 8. Modulators are neither
read nor written (midirenderer ignores them).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

# Generators (section 8.1.2 of the specification)
FILTER_CUTOFF, FILTER_Q = 8, 9
ATTACK, HOLD, DECAY, SUSTAIN, RELEASE = 34, 35, 36, 37, 38  # volume envelope: timecents, cB
INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, ATTENUATION = 41, 43, 44, 48  # attenuation: cB
SEMITONES, CENTS, SAMPLE, SAMPLE_MODES, EXCLUSIVE, ROOT_KEY = 51, 52, 53, 54, 57, 58
NOT_ADDED = (0, 1, 2, 3, 4, 12, 45, 46, 47, 50, SAMPLE_MODES, EXCLUSIVE, ROOT_KEY)  # section 8.5
GUARD = 46  # zeros after each sample that the specification asks for

PRESET = np.dtype(
    [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")]
)
NAMED_BAG = np.dtype([("name", "S20"), ("bag", "<u2")])
BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
GENERATOR = np.dtype([("kind", "<u2"), ("amount", "<i2")])
HEADER = np.dtype(
    [
        ("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop", "<u4"), ("loop_end", "<u4"),
        ("rate", "<u4"), ("root", "u1"), ("cents", "i1"), ("link", "<u2"), ("kind", "<u2"),
    ]
)  # fmt: skip


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


def timecents(seconds: float) -> int:
    return round(1200 * np.log2(max(seconds, 0.001)))


def write(path: Path, name: str, presets: list[Preset]) -> None:
    """Write a SoundFont 2.01 file whole or not at all. ValueError if a sample does not fit."""
    presets = sorted(presets, key=lambda preset: (preset.bank, preset.program))
    instruments = list({id(p.zones): p.zones for p in presets}.values())
    samples = list({id(z.sample): z.sample for zones in instruments for z in zones}.values())
    sample_number = {id(sample): k for k, sample in enumerate(samples)}
    instrument_number = {id(zones): k for k, zones in enumerate(instruments)}

    pool, headers, position = [], [], 0
    for sample in samples:
        if sample.data.dtype != np.int16 or sample.data.ndim != 1 or len(sample.data) < 48:
            raise ValueError(f"sample {sample.name}: expected int16 [time], at least 48 samples")
        first, last = sample.loop or (0, len(sample.data))
        if not 0 <= first < last <= len(sample.data):
            raise ValueError(f"sample {sample.name}: loop {sample.loop} is outside it")
        headers.append(
            (_name(sample.name), position, position + len(sample.data), position + first,
             position + last, sample.rate, sample.root, sample.cents, 0, 1)
        )  # fmt: skip
        pool += [sample.data, np.zeros(GUARD, np.int16)]
        position += len(sample.data) + GUARD
    headers.append((b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0))

    zone_lists = [[_generators(z, sample_number[id(z.sample)]) for z in i] for i in instruments]
    instrument_rows, instrument_bags, instrument_generators = _lists(zone_lists)
    preset_rows, preset_bags, preset_generators = _lists(
        [[[(INSTRUMENT, instrument_number[id(preset.zones)])]] for preset in presets]
    )
    named = [_name(f"instrument {k}") for k in range(len(instruments))] + [b"EOI"]
    tables = {
        b"phdr": np.array(
            [(_name(p.name), p.program, p.bank, bag, b"") for p, bag in
             zip(presets, preset_rows, strict=False)] + [(b"EOP", 0, 0, preset_rows[-1], b"")],
            PRESET,
        ),
        b"pbag": np.array(preset_bags, BAG),
        b"pmod": np.zeros(10, np.uint8),
        b"pgen": np.array(preset_generators, GENERATOR),
        b"inst": np.array(list(zip(named, instrument_rows, strict=True)), NAMED_BAG),
        b"ibag": np.array(instrument_bags, BAG),
        b"imod": np.zeros(10, np.uint8),
        b"igen": np.array(instrument_generators, GENERATOR),
        b"shdr": np.array(headers, HEADER),
    }  # fmt: skip
    text = name.encode("ascii", "replace")[:250] + b"\0"
    info = _chunk(b"ifil", struct.pack("<HH", 2, 1)) + _chunk(b"isng", b"EMU8000\0")
    info += _chunk(b"INAM", text + b"\0" * (len(text) % 2))
    sound = _chunk(b"smpl", np.concatenate(pool).tobytes())
    parts = b"".join(_chunk(key, table.tobytes()) for key, table in tables.items())
    body = b"sfbk" + b"".join(
        _chunk(b"LIST", kind + data)
        for kind, data in ((b"INFO", info), (b"sdta", sound), (b"pdta", parts))
    )
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(_chunk(b"RIFF", body))
    os.replace(partial, path)


def read(path: Path) -> list[Preset]:
    """The presets of a file with their zones, each with the generators that apply to it (section
    9.4: preset generators are added to the instrument's). ValueError if it is not SoundFont 2."""
    data = path.read_bytes()
    chunks = _chunks(data)
    if b"smpl" not in chunks or b"shdr" not in chunks:
        raise ValueError(f"{path}: not a SoundFont 2 file with samples")
    pool = np.frombuffer(data, "<i2", len(chunks[b"smpl"]) // 2, chunks[b"smpl"].start)

    def table(key: bytes, form: np.dtype) -> np.ndarray:
        span = chunks[key]
        return np.frombuffer(data, form, len(span) // form.itemsize, span.start)

    samples = [_sample(row, pool) for row in table(b"shdr", HEADER)[:-1]]
    instruments = table(b"inst", NAMED_BAG)
    bags, generators = table(b"ibag", BAG)["generator"], table(b"igen", GENERATOR)
    zones_of = [
        _zones(generators, bags[first : last + 1], SAMPLE)
        for first, last in zip(instruments["bag"][:-1], instruments["bag"][1:], strict=True)
    ]
    rows = table(b"phdr", PRESET)
    bags, generators = table(b"pbag", BAG)["generator"], table(b"pgen", GENERATOR)
    presets = []
    for row, following in pairwise(rows):
        outer = _zones(generators, bags[row["bag"] : following["bag"] + 1], INSTRUMENT)
        zones = [
            zone
            for above in outer
            for below in zones_of[above[INSTRUMENT]]
            if (zone := _merge(above, below, samples)) is not None
        ]
        presets.append(
            Preset(_text(row["name"]), int(row["bank"]), int(row["program"]), tuple(zones))
        )
    return presets


def _merge(above: dict[int, int], below: dict[int, int], samples: list[Sample]) -> Zone | None:
    spans = []
    for kind in (KEY_RANGE, VELOCITY_RANGE):
        ends = [(g[kind] & 255, (g[kind] >> 8) & 255) for g in (above, below) if kind in g]
        spans.append((max([0, *(e[0] for e in ends)]), min([127, *(e[1] for e in ends)])))
    if any(low > high for low, high in spans):
        return None
    merged = dict(below)
    for kind, amount in above.items():
        if kind not in NOT_ADDED:
            amount += merged.get(kind, _DEFAULTS.get(kind, 0))
            merged[kind] = max(-32768, min(32767, amount))
    for kind in (INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, SAMPLE):
        merged.pop(kind, None)
    return Zone(samples[below[SAMPLE]], spans[0], spans[1], merged)


# Of the generators whose default is not 0 (section 8.1.3); 56 is the key scale of the tuning.
_DEFAULTS = {FILTER_CUTOFF: 13500, 56: 100} | dict.fromkeys(
    (21, 23, 25, 26, 27, 28, 30, 33, ATTACK, HOLD, DECAY, RELEASE), -12000
)


def _zones(generators: np.ndarray, bags: np.ndarray, last: int) -> list[dict[int, int]]:
    """The zones of one list of bags, with the global zone's generators in each."""
    common: dict[int, int] = {}
    zones = []
    for k, (first, stop) in enumerate(pairwise(bags)):
        zone = {int(g["kind"]): int(g["amount"]) for g in generators[first:stop]}
        if last in zone:
            zones.append({**common, **zone})
        elif k == 0:
            common = zone
    return zones


def _sample(row: np.void, pool: np.ndarray) -> Sample:
    start, end = int(row["start"]), int(row["end"])
    loop = (int(row["loop"]) - start, int(row["loop_end"]) - start)
    good = 0 <= loop[0] < loop[1] <= end - start
    root = int(row["root"]) if row["root"] < 128 else 60
    return Sample(
        _text(row["name"]), pool[start:end], int(row["rate"]), root, int(row["cents"]),
        loop if good else None,
    )  # fmt: skip


def _generators(zone: Zone, sample: int) -> list[tuple[int, int]]:
    ordered = [(KEY_RANGE, _span(zone.keys)), (VELOCITY_RANGE, _span(zone.velocities))]
    ordered += sorted(zone.generators.items())
    return [*ordered, (SAMPLE, sample)]


def _span(ends: tuple[int, int]) -> int:
    low, high = ends
    if not 0 <= low <= high <= 127:
        raise ValueError(f"keys or velocities {low} to {high}: expected 0 to 127")
    return low | high << 8


def _lists(
    groups: list[list[list[tuple[int, int]]]],
) -> tuple[list[int], list[tuple[int, int]], list[tuple[int, int]]]:
    """First bag of each group and of the end; (generator, modulator) of each bag; generators."""
    rows: list[int] = []
    bags: list[tuple[int, int]] = []
    generators: list[tuple[int, int]] = []
    for group in groups:
        rows.append(len(bags))
        for zone in group:
            bags.append((len(generators), 0))
            generators += zone
    rows.append(len(bags))
    return rows, [*bags, (len(generators), 0)], [*generators, (0, 0)]


def _chunks(data: bytes) -> dict[bytes, range]:
    """Where the data of each chunk lies, those inside the lists included."""
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        return {}
    found: dict[bytes, range] = {}
    position = 12
    while position + 8 <= len(data):
        key = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if key == b"LIST":
            position += 12
            continue
        found[key] = range(position + 8, position + 8 + size)
        position += 8 + size + size % 2
    return found


def _chunk(key: bytes, data: bytes) -> bytes:
    return key + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _name(text: str) -> bytes:
    return text.encode("ascii", "replace")[:19]


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode("latin-1")
