"""The form of SoundFont 2 files: chunks, records, and zones as {generator: amount}.

Format: SoundFont Technical Specification 2.01 (E-mu, 1998), chapters 4 to 8. Modulators are neither
read nor written (midirenderer ignores them).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

Zone = dict[int, int]  # generator -> amount

# Generators (section 8.1.2). Times: timecents; cut-off, tuning, vibrato: cents; levels: centibels.
VIBRATO, VIBRATO_DELAY, VIBRATO_RATE = 6, 23, 24
CUTOFF, RESONANCE = 8, 9
OPENING, OPENING_DECAY, OPENING_END = 11, 28, 29  # the modulation envelope's: cents, time, 0.1 %
ATTACK, HOLD, DECAY, SUSTAIN, RELEASE = 34, 35, 36, 37, 38  # of the level; sustain: below the peak
INSTRUMENT, KEYS, VELOCITIES, ATTENUATION = 41, 43, 44, 48  # keys and velocities: low | high << 8
COARSE, FINE, SAMPLE, LOOPS, EXCLUSIVE, ROOT_KEY = 51, 52, 53, 54, 57, 58  # coarse: semitones
OPEN_CENTS = 13500  # the highest cut-off
# Of the generators whose default is not 0 (section 8.1.3); 56 is the key scale of the tuning.
DEFAULTS = {CUTOFF: OPEN_CENTS, 56: 100} | dict.fromkeys(
    (21, VIBRATO_DELAY, 25, 26, 27, OPENING_DECAY, 30, 33, ATTACK, HOLD, DECAY, RELEASE), -12000
)

PRESET_RECORD = np.dtype(
    [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")]
)
INSTRUMENT_RECORD = np.dtype([("name", "S20"), ("bag", "<u2")])
BAG_RECORD = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
GENERATOR_RECORD = np.dtype([("kind", "<u2"), ("amount", "<i2")])
SAMPLE_RECORD = np.dtype(
    [("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop", "<u4"), ("loop_end", "<u4"),
     ("rate", "<u4"), ("root", "u1"), ("cents", "i1"), ("link", "<u2"), ("kind", "<u2")]
)  # fmt: skip
GUARD = np.zeros(46, np.int16)  # silence that the specification asks for after each sample


class Font:
    """The tables of a file, as views into its bytes. ValueError if it is not SoundFont 2."""

    def __init__(self, data: bytes) -> None:
        chunks = _chunks(data)

        def records(name: str, form: np.dtype) -> np.ndarray:
            if name not in chunks:
                raise ValueError(f"not a SoundFont 2 file: it has no {name} chunk")
            return np.frombuffer(chunks[name], form, len(chunks[name]) // form.itemsize)

        self.presets = records("phdr", PRESET_RECORD)
        self.instruments = records("inst", INSTRUMENT_RECORD)
        self.headers = records("shdr", SAMPLE_RECORD)
        self.samples = records("smpl", np.dtype("<i2"))
        self._bags = {
            INSTRUMENT: (records("pbag", BAG_RECORD), records("pgen", GENERATOR_RECORD)),
            SAMPLE: (records("ibag", BAG_RECORD), records("igen", GENERATOR_RECORD)),
        }

    def preset_zones(self, k: int) -> list[Zone]:
        """The zones of a preset, which point at instruments."""
        return self._zones(self.presets["bag"][k : k + 2], INSTRUMENT)

    def instrument_zones(self, k: int) -> list[Zone]:
        """The zones of an instrument, which point at samples."""
        return self._zones(self.instruments["bag"][k : k + 2], SAMPLE)

    def _zones(self, ends: np.ndarray, last: int) -> list[Zone]:
        """The zones between two bags, each with what the global zone sets."""
        bags, generators = self._bags[last]
        edges = bags["generator"][int(ends[0]) : int(ends[1]) + 1]
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


def pack(
    name: str,
    presets: Sequence[tuple[str, int, int, Sequence[Zone]]],
    instruments: Sequence[Sequence[Zone]],
    headers: np.ndarray,
    waves: Sequence[np.ndarray],
) -> bytes:
    """A file of presets (name, program, bank, zones). ``headers`` [sample] of SAMPLE_RECORD are
    moved to where their ``waves``, int16 [time] from each header's start on, come to lie."""
    tables = {"phdr": np.zeros(len(presets) + 1, PRESET_RECORD)}
    for row, (title, program, bank, _) in zip(tables["phdr"], presets, strict=False):
        row["name"], row["program"], row["bank"] = encoded(title), program, bank
    tables["pbag"], tables["pgen"] = _bags([zones for *_, zones in presets], INSTRUMENT)
    tables["inst"] = np.zeros(len(instruments) + 1, INSTRUMENT_RECORD)
    tables["inst"]["name"][:-1] = [encoded(f"instrument {k}") for k in range(len(instruments))]
    tables["ibag"], tables["igen"] = _bags(instruments, SAMPLE)
    for key, lists in (("phdr", [z for *_, z in presets]), ("inst", instruments)):
        tables[key]["bag"][1:] = np.cumsum([len(zones) for zones in lists])
    tables["shdr"] = np.zeros(len(headers) + 1, SAMPLE_RECORD)
    tables["shdr"][:-1] = headers
    pieces: list[np.ndarray] = []
    first = 0
    for row, wave in zip(tables["shdr"], waves, strict=False):
        moved = first - int(row["start"])
        for field in ("start", "end", "loop", "loop_end"):
            row[field] = int(row[field]) + moved
        row["link"] = 0
        pieces += [wave, GUARD]
        first += len(wave) + len(GUARD)
    for key, end in (("phdr", b"EOP"), ("inst", b"EOI"), ("shdr", b"EOS")):
        tables[key]["name"][-1] = end
    tables["pmod"] = tables["imod"] = np.zeros(10, np.uint8)

    text = name.encode("ascii", "replace")[:250] + b"\0"
    info = _chunk("ifil", struct.pack("<HH", 2, 1)) + _chunk("isng", b"EMU8000\0")
    info += _chunk("INAM", text + bytes(len(text) % 2))
    order = ("phdr", "pbag", "pmod", "pgen", "inst", "ibag", "imod", "igen", "shdr")
    body = b"sfbk" + _chunk("LIST", b"INFO" + info)
    body += _chunk("LIST", b"sdta" + _chunk("smpl", np.concatenate(pieces).tobytes()))
    body += _chunk("LIST", b"pdta" + b"".join(_chunk(n, tables[n].tobytes()) for n in order))
    return _chunk("RIFF", body)


def bounds(zone: Zone, generator: int) -> tuple[int, int]:
    """The range of KEYS or VELOCITIES of a zone; (0, 127) unless it says otherwise."""
    amount = zone.get(generator, 127 << 8) & 0xFFFF
    return amount & 0xFF, amount >> 8


def set_bounds(zone: Zone, generator: int, low: int, high: int) -> None:
    zone[generator] = low | high << 8


def timecents(seconds: float) -> int:
    return round(1200 * np.log2(max(seconds, 0.001)))


def encoded(text: str) -> bytes:
    """A name of at most 19 characters."""
    return text.encode("ascii", "replace")[:19]


def _bags(lists: Sequence[Sequence[Zone]], last: int) -> tuple[np.ndarray, np.ndarray]:
    """The bags and generators of some lists of zones, in the order that section 8.1 asks for."""
    order = {KEYS: -2, VELOCITIES: -1, last: 999}
    zones = [
        sorted(zone.items(), key=lambda item: order.get(item[0], item[0]))
        for zones in lists
        for zone in zones
    ]
    bags = np.zeros(len(zones) + 1, BAG_RECORD)
    bags["generator"][1:] = np.cumsum([len(zone) for zone in zones])
    flat = [(kind, (amount + 0x8000) % 0x10000 - 0x8000) for zone in zones for kind, amount in zone]
    return bags, np.array([*flat, (0, 0)], GENERATOR_RECORD)


def _chunks(font: bytes) -> dict[str, memoryview]:
    """The chunks inside the lists of a RIFF file, by name."""
    view, found = memoryview(font), {}
    place = 12
    while place + 8 <= len(view):
        size = int.from_bytes(view[place + 4 : place + 8], "little")
        if bytes(view[place : place + 4]) == b"LIST":
            place += 12  # into it
            continue
        name = bytes(view[place : place + 4]).decode("latin-1")
        found[name] = view[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    return found


def _chunk(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
