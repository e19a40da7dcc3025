"""One preset of a SoundFont 2 file: read into lists of zones, and written as a small font."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sf2_format import CUTOFF, INSTRUMENT, OPEN_CENTS, RESONANCE, SAMPLE, Font, Zone, pack


@dataclass
class Preset:
    """`zones` point at `instruments`, whose zones point at samples."""

    zones: list[Zone]
    instruments: list[list[Zone]]
    headers: np.ndarray  # [sample] of SAMPLE_RECORD
    waves: list[np.ndarray]  # int16 [time] of each sample


def read(data: bytes, program: int, bank: int) -> Preset:
    """The preset that midirenderer plays for (program, bank), with its fallbacks. ValueError if
    `data` is not SF2."""
    font = Font(data)
    names = [(int(p["bank"]), int(p["program"])) for p in font.presets[:-1]]
    general = (0, program) if bank < 128 else (128, 0)
    chosen = next((n for n in ((bank, program), general) if n in names), min(names))
    zones = font.preset_zones(len(names) - 1 - names[::-1].index(chosen))
    used = sorted({zone[INSTRUMENT] for zone in zones})
    instruments = [font.instrument_zones(k) for k in used]
    sounds = sorted({zone[SAMPLE] for some in instruments for zone in some})
    for zone in zones:
        zone[INSTRUMENT] = used.index(zone[INSTRUMENT])
    place = {sample: n for n, sample in enumerate(sounds)}
    for some in instruments:
        for zone in some:
            zone[SAMPLE] = place[zone[SAMPLE]]
    headers = font.headers[sounds]
    return Preset(
        zones, instruments, headers, [font.samples[s["start"] : s["end"]] for s in headers]
    )


def write(preset: Preset, program: int, bank: int) -> bytes:
    """A font whose only preset is `preset`, at (program, bank)."""
    presets = [("one", program, bank, preset.zones)]
    return pack("one", presets, preset.instruments, preset.headers, preset.waves)


def open_filters(preset: Preset) -> None:
    """Open the low-pass filters and make them flat.

    midirenderer ignores a SoundFont's modulators. MuseScore_General's acoustic pianos start from a
    nearly closed filter that a velocity modulator opens, so they come out muffled (spectral
    centroid 100 Hz instead of 600). Setting their initial cut-off to the top of its range, the
    SoundFont 2.01 default, brings them within 1 dB a note of fluidsynth.
    """
    for zones, cutoff in ((preset.zones, 0), *((some, OPEN_CENTS) for some in preset.instruments)):
        for zone in zones:  # a preset's amounts are added to its instruments'
            zone |= {g: v for g, v in ((CUTOFF, cutoff), (RESONANCE, 0)) if g in zone}
