"""metadata.yaml in the words of Slakh2100."""

from __future__ import annotations

import yaml
from score import Song

CLASSES = {"bass": "Bass", "drums": "Drums", "guitar": "Guitar", "piano": "Piano"}
DRUM_PROGRAM = 128
PROGRAM_NAMES = {
    0: "Acoustic Grand Piano", 1: "Bright Acoustic Piano", 2: "Electric Grand Piano",
    3: "Honky-tonk Piano", 4: "Electric Piano 1", 5: "Electric Piano 2", 6: "Harpsichord",
    7: "Clavinet", 24: "Acoustic Guitar (nylon)", 25: "Acoustic Guitar (steel)",
    26: "Electric Guitar (jazz)", 27: "Electric Guitar (clean)", 28: "Electric Guitar (muted)",
    29: "Overdriven Guitar", 30: "Distortion Guitar", 31: "Guitar Harmonics", 32: "Acoustic Bass",
    33: "Electric Bass (finger)", 34: "Electric Bass (pick)", 35: "Fretless Bass",
    36: "Slap Bass 1", 37: "Slap Bass 2", 38: "Synth Bass 1", 39: "Synth Bass 2",
    DRUM_PROGRAM: "Drums",
}  # fmt: skip


def dump(song: Song, identifier: str, gain: float, fonts: list[str]) -> str:
    """The YAML text; `fonts` names the SoundFont of each part. Drums are program 128, as there."""
    stems = {}
    for k, (part, font) in enumerate(zip(song.parts, fonts, strict=True)):
        is_drum = part.stem == "drums"
        program = DRUM_PROGRAM if is_drum else part.program
        stems[f"S{k:02d}"] = {
            "audio_rendered": True,
            "inst_class": CLASSES[part.stem],
            "is_drum": is_drum,
            "midi_program_name": PROGRAM_NAMES[program],
            "midi_saved": False,
            "plugin_name": font,
            "program_num": program,
        }
    content = {
        "UUID": identifier,
        "audio_dir": "stems",
        "midi_dir": "MIDI",
        "normalized": False,
        "overall_gain": gain,
        "stems": stems,
    }
    return yaml.safe_dump(content, sort_keys=True)
