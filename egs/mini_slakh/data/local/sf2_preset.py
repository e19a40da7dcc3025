"""One preset of a SoundFont 2 file: read into lists of zones, and written as a small font.

Only what midirenderer plays is kept: zones, generators, 16-bit samples. Modulators are dropped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from sf2_filter import BAG, GENERATOR, INSTRUMENT, INSTRUMENT_OF_ZONE, PRESET, SAMPLE_OF_ZONE

KEYS, VELOCITIES = 43, 44  # generators that hold a range: low byte first, high byte last
SAMPLE = np.dtype(
    [("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop", "<u4"), ("loop_end", "<u4"),
     ("rate", "<u4"), ("root", "u1"), ("correction", "i1"), ("link", "<u2"), ("kind", "<u2")]
)  # fmt: skip
GUARD = np.zeros(46, np.int16)  # silence that SoundFont 2.01 wants after each sample
Zone = dict[int, int]  # generator -> amount


@dataclass
class Preset:
    """`zones` point at `instruments` (generator 41), whose zones point at samples (53)."""

    zones: list[Zone]
    instruments: list[list[Zone]]
    headers: np.ndarray  # [sample] of SAMPLE
    waves: list[np.ndarray]  # int16 [time] of each sample


def read(font: bytes, program: int, bank: int) -> Preset:
    """The preset that midirenderer plays for (program, bank), with its fallbacks. ValueError if
    `font` is not SF2."""
    chunks = _chunks(font)
    try:
        presets, instruments = (
            _records(chunks, "phdr", PRESET),
            _records(chunks, "inst", INSTRUMENT),
        )
        preset_bags, bags = _records(chunks, "pbag", BAG), _records(chunks, "ibag", BAG)
        preset_generators = _records(chunks, "pgen", GENERATOR)
        generators = _records(chunks, "igen", GENERATOR)
        headers, samples = _records(chunks, "shdr", SAMPLE), np.frombuffer(chunks["smpl"], "<i2")
    except KeyError as missing:
        raise ValueError(f"not a SoundFont 2 file: it has no {missing.args[0]} chunk") from None
    names = [(int(p["bank"]), int(p["program"])) for p in presets[:-1]]
    general = (0, program) if bank < 128 else (128, 0)
    chosen = next((n for n in ((bank, program), general) if n in names), min(names))
    k = len(names) - 1 - names[::-1].index(chosen)
    zones = _zones(presets["bag"][k : k + 2], preset_bags, preset_generators, INSTRUMENT_OF_ZONE)
    used = sorted({zone[INSTRUMENT_OF_ZONE] for zone in zones})
    lists = [_zones(instruments["bag"][i : i + 2], bags, generators, SAMPLE_OF_ZONE) for i in used]
    sounds = sorted({zone[SAMPLE_OF_ZONE] for some in lists for zone in some})
    for zone in zones:
        zone[INSTRUMENT_OF_ZONE] = used.index(zone[INSTRUMENT_OF_ZONE])
    place = {sample: n for n, sample in enumerate(sounds)}
    for some in lists:
        for zone in some:
            zone[SAMPLE_OF_ZONE] = place[zone[SAMPLE_OF_ZONE]]
    kept = headers[sounds]
    return Preset(zones, lists, kept, [samples[s["start"] : s["end"]] for s in kept])


def write(preset: Preset, program: int, bank: int) -> bytes:
    """A font whose only preset is `preset`, at (program, bank)."""
    pieces: list[np.ndarray] = []
    headers = np.zeros(len(preset.headers) + 1, SAMPLE)
    headers[:-1], headers["name"][-1] = preset.headers, b"EOS"
    first = 0
    for k, wave in enumerate(preset.waves):
        moved = first - int(headers["start"][k])
        for field in ("start", "end", "loop", "loop_end"):
            headers[field][k] = int(headers[field][k]) + moved
        headers["link"][k] = 0
        pieces += [wave, GUARD]
        first += len(wave) + len(GUARD)
    preset_bags, preset_generators = _packed([preset.zones], INSTRUMENT_OF_ZONE)
    bags, generators = _packed(preset.instruments, SAMPLE_OF_ZONE)
    presets = np.zeros(2, PRESET)
    presets[0], presets["bag"][1] = (b"one", program, bank, 0, b""), len(preset.zones)
    instruments = np.zeros(len(preset.instruments) + 1, INSTRUMENT)
    instruments["bag"][1:] = np.cumsum([len(zones) for zones in preset.instruments])
    none = bytes(10)
    tables = (
        ("phdr", presets.tobytes()), ("pbag", preset_bags), ("pmod", none),
        ("pgen", preset_generators), ("inst", instruments.tobytes()), ("ibag", bags),
        ("imod", none), ("igen", generators), ("shdr", headers.tobytes()),
    )  # fmt: skip
    info = _chunk("ifil", struct.pack("<HH", 2, 1)) + _chunk("isng", b"EMU8000\0")
    body = b"sfbk" + _chunk("LIST", b"INFO" + info + _chunk("INAM", b"one\0"))
    body += _chunk("LIST", b"sdta" + _chunk("smpl", np.concatenate(pieces).tobytes()))
    body += _chunk("LIST", b"pdta" + b"".join(_chunk(name, data) for name, data in tables))
    return _chunk("RIFF", body)


def bounds(zone: Zone, generator: int) -> tuple[int, int]:
    """The range of keys or velocities of a zone; (0, 127) unless it says otherwise."""
    amount = zone.get(generator, 127 << 8) & 0xFFFF
    return amount & 0xFF, amount >> 8


def set_bounds(zone: Zone, generator: int, low: int, high: int) -> None:
    zone[generator] = low | high << 8


def _zones(ends: np.ndarray, bags: np.ndarray, generators: np.ndarray, last: int) -> list[Zone]:
    """The zones of one preset or instrument, each with what its global zone sets."""
    edges = bags["generator"][ends[0] : ends[1] + 1]
    zones = []
    common: Zone = {}
    for k in range(len(edges) - 1):
        part = generators[edges[k] : edges[k + 1]]
        zone = dict(zip(part["kind"].tolist(), part["amount"].tolist(), strict=True))
        if last in zone:
            zone[last] &= 0xFFFF
            zones.append(common | zone)
        elif k == 0:
            common = zone
    return zones


def _packed(lists: list[list[Zone]], last: int) -> tuple[bytes, bytes]:
    order = {KEYS: -2, VELOCITIES: -1, last: 999}
    zones = [
        sorted(zone.items(), key=lambda item: order.get(item[0], item[0]))
        for zones in lists
        for zone in zones
    ]
    bags = np.zeros(len(zones) + 1, BAG)
    bags["generator"][1:] = np.cumsum([len(zone) for zone in zones])
    flat = [(kind, (amount + 0x8000) % 0x10000 - 0x8000) for zone in zones for kind, amount in zone]
    return bags.tobytes(), np.array([*flat, (0, 0)], GENERATOR).tobytes()


def _chunks(font: bytes) -> dict[str, memoryview]:
    """The chunks inside the lists of a RIFF file, by name."""
    view, found = memoryview(font), {}
    place = 12
    while place + 8 <= len(view):
        size = int.from_bytes(view[place + 4 : place + 8], "little")
        if bytes(view[place : place + 4]) == b"LIST":
            inner, end = place + 12, min(len(view), place + 8 + size)
            while inner + 8 <= end:
                length = int.from_bytes(view[inner + 4 : inner + 8], "little")
                name = bytes(view[inner : inner + 4]).decode("latin-1")
                found[name] = view[inner + 8 : inner + 8 + length]
                inner += 8 + length + length % 2
        place += 8 + size + size % 2
    return found


def _records(chunks: dict[str, memoryview], name: str, form: np.dtype) -> np.ndarray:
    data = chunks[name]
    return np.frombuffer(data, form, len(data) // form.itemsize)


def _chunk(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
