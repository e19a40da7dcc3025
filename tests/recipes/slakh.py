"""A miniature of Slakh2100 in its published form."""

from pathlib import Path

from mgdm_audio.audio.io import write
from tests.toys import song

RATE = 44100  # Hz
# (class, program, the program's name, patch), from Track00001 of BabySlakh; 128 is a drum kit. The
# last two are of no stem, and the very last was not rendered.
SOURCES = (
    ("Guitar", 30, "Distortion Guitar", "elektrik_guitar.nkm"),
    ("Drums", 128, "Drums", "session_kit_full.nkm"),
    ("Piano", 1, "Bright Acoustic Piano", "the_giant_modern_studio.nkm"),
    ("Bass", 33, "Electric Bass (finger)", "scarbee_rickenbacker_bass_palm_muted.nkm"),
    ("Guitar", 26, "Electric Guitar (jazz)", "jazz_guitar2.nkm"),
    ("Strings (continued)", 52, "Choir Aahs", "choir_o.nkm"),
    ("Sound Effects", 103, "FX 8 (sci-fi)", "None"),
)
HEAD = """UUID: 1a81ae092884234f3264e2f45927f00a
audio_dir: stems
lmd_midi_dir: lmd_matched/O/O/H/TROOHTB128F931F9DF/1a81ae092884234f3264e2f45927f00a.mid
midi_dir: MIDI
normalization_factor: -13.0
normalized: true
overall_gain: 0.18270259567062658
stems:
"""
ENTRY = """  S{number:02d}:
    audio_rendered: {rendered}
    inst_class: {kind}
{loudness}    is_drum: {drum}
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
            loudness="    integrated_loudness: -12.8\n" if index < len(waves) else "",
            drum=str(kind == "Drums").lower(),
            name=name,
            patch=patch,
            program=program,
        )
        for index, (kind, program, name, patch) in enumerate(SOURCES)
    )
    (track / "metadata.yaml").write_text(f"{HEAD}{entries}target_peak: -1.0\n")
