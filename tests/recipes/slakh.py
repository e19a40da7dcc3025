"""A miniature of Slakh2100 in its published form."""

from pathlib import Path

from mgdm_audio.audio.io import write
from tests.toys import song

RATE = 44100  # Hz
# (class, program, the program's name, patch); 128 is a drum kit. The last two are of no stem, and
# of these the last was not rendered, which its metadata say.
SOURCES = (
    ("Guitar", 30, "Distortion Guitar", "elektrik_guitar.nkm"),
    ("Bass", 33, "Electric Bass (finger)", "classic_bass.nkm"),
    ("Piano", 0, "Acoustic Grand Piano", "the_grandeur.nkm"),
    ("Drums", 128, "Drums", "ar_modern_white_multi.nkm"),
    ("Piano", 1, "Bright Acoustic Piano", "the_grandeur.nkm"),
    ("Strings (continued)", 48, "String Ensemble 1", "strings.nkm"),
    ("Sound Effects", 125, "Helicopter", "None"),
)
HEAD = """UUID: 1a81ae092884234f3264e2f45927f00a
audio_dir: stems
lmd_midi_dir: lmd_matched/X/X/X/TRXXXXX00000000000/1a81ae092884234f3264e2f45927f00a.mid
midi_dir: MIDI
normalization_factor: -13.0
normalized: true
overall_gain: 0.18270259567062658
stems:
"""
ENTRY = """  S{number:02d}:
    audio_rendered: {rendered}
    inst_class: {kind}
    integrated_loudness: -12.82074180245363
    is_drum: {drum}
    midi_program_name: {name}
    midi_saved: true
    plugin_name: {patch}
    program_num: {program}
"""


def write_track(track: Path, seconds: float) -> None:
    """The folder ``track`` with its metadata and 16-bit sources; no MIDI, which nothing reads."""
    number = int(track.name.removeprefix("Track"))
    waves = song(number, len(SOURCES) - 1, round(seconds * RATE), RATE) / len(SOURCES)
    (track / "stems").mkdir(parents=True)
    for index, wave in enumerate(waves):
        write(track / f"stems/S{index:02d}.flac", wave[None], RATE)
    write(track / "mix.flac", waves.sum(0, keepdim=True), RATE)
    entries = "".join(
        ENTRY.format(
            number=index,
            rendered=str(index < len(waves)).lower(),
            kind=kind,
            drum=str(kind == "Drums").lower(),
            name=name,
            patch=patch,
            program=program,
        )
        for index, (kind, program, name, patch) in enumerate(SOURCES)
    )
    (track / "metadata.yaml").write_text(f"{HEAD}{entries}target_peak: -1.0\n")
