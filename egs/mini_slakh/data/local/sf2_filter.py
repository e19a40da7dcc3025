"""Open the low-pass filters of chosen SoundFont presets, in memory.

midirenderer ignores a SoundFont's modulators. MuseScore_General's acoustic pianos start from a
nearly closed filter that a velocity modulator opens, so they come out muffled (spectral centroid
100 Hz instead of 600). Setting their initial cut-off to the top of its range (13500 cents, the
SoundFont 2.01 default) brings them within 1 dB a note of fluidsynth.
"""

from __future__ import annotations

import numpy as np

SAMPLE_OF_ZONE, INSTRUMENT_OF_ZONE, FILTER_CUTOFF, FILTER_Q = 53, 41, 8, 9
OPEN_CENTS = 13500
GENERATOR = np.dtype([("kind", "<u2"), ("amount", "<i2")])
BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
PRESET = np.dtype(
    [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")]
)
INSTRUMENT = np.dtype([("name", "S20"), ("bag", "<u2")])


def open_filters(font: bytes, programs: frozenset[int]) -> bytes:
    """`font` with the filters of bank 0's `programs` open and flat. ValueError if it is not SF2."""
    data = bytearray(font)
    presets, instruments = _table(data, b"phdr", PRESET), _table(data, b"inst", INSTRUMENT)
    preset_bags, instrument_bags = _table(data, b"pbag", BAG), _table(data, b"ibag", BAG)
    preset_generators, generators = (
        _table(data, b"pgen", GENERATOR),
        _table(data, b"igen", GENERATOR),
    )
    used: set[int] = set()
    for k in range(len(presets) - 1):
        if presets["bank"][k] == 0 and int(presets["program"][k]) in programs:
            bags = preset_bags["generator"][presets["bag"][k] : presets["bag"][k + 1] + 1]
            zone = preset_generators[bags[0] : bags[-1]]
            used |= set(zone["amount"][zone["kind"] == INSTRUMENT_OF_ZONE].tolist())
            _flatten(zone, 0)
    for k in used:
        bags = instrument_bags["generator"][instruments["bag"][k] : instruments["bag"][k + 1] + 1]
        _flatten(generators[bags[0] : bags[-1]], OPEN_CENTS)
    return bytes(data)


def _flatten(zone: np.ndarray, cutoff: int) -> None:
    zone["amount"][zone["kind"] == FILTER_CUTOFF] = cutoff
    zone["amount"][zone["kind"] == FILTER_Q] = 0


def _table(data: bytearray, name: bytes, form: np.dtype) -> np.ndarray:
    """The records of one chunk of the font's last list ("pdta"), as a view into `data`."""
    start = data.rfind(name, data.rfind(b"pdta"))
    if start < 0:
        raise ValueError(f"not a SoundFont 2 file: it has no {name.decode()} chunk")
    size = int.from_bytes(data[start + 4 : start + 8], "little")
    return np.frombuffer(data, form, size // form.itemsize, start + 8)
