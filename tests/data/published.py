"""Data sets in the forms they are published in; their sound is replaced by short noise.

Folders, file names, fields, flags and values of the metadata follow

- BabySlakh: mir-dataset-loaders/mirdata,
  tests/resources/mir_datasets/slakh/babyslakh_16k/Track00001/metadata.yaml;
- Slakh2100 and slakh2100_flac_redux: ethman/slakh-utils, README.md and splits/README.md, its issue
  25 for the two forms of ``audio_dir`` of the redux, its issue 20 for a first stem without audio;
- MSDM's stems: gladia-research-group/multi-source-diffusion-models, data/README.md, main/data.py;
- MUSDB18-HQ: sigsep/sigsep-mus-db, musdb/configs/mus.yaml and musdb/__init__.py;
- MUSDB18: faroit/stempeg, the song in stempeg/data, which that package installs;
- MoisesDB: moises-ai/moises-db, README.md, moisesdb/track.py and moisesdb/defaults.py;
- MedleyDB: two metadata files of marl/medleydb, which are in the folder medleydb beside this file.
"""

import json
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.data_sets import noise, put

# Track00001: class, program, its name, plugin, loudness; without the last one, never rendered.
TRACK_1: Sequence[tuple[str, int, str, str, float | None]] = (
    ("Guitar", 30, "Distortion Guitar", "elektrik_guitar.nkm", -12.82074180245363),
    ("Drums", 128, "Drums", "session_kit_full.nkm", -27.129534164015215),
    ("Piano", 1, "Bright Acoustic Piano", "the_giant_modern_studio.nkm", -16.590526818369444),
    ("Bass", 33, "Electric Bass (finger)", "scarbee_rickenbacker_bass_palm_muted.nkm", -21.676),
    ("Strings (continued)", 52, "Choir Aahs", "choir_o.nkm", -17.157877893943464),
    ("Organ", 17, "Percussive Organ", "fever.nkm", -16.600870078462915),
    ("Sound Effects", 103, "FX 8 (sci-fi)", "None", None),
    ("Guitar", 26, "Electric Guitar (jazz)", "jazz_guitar2.nkm", -16.397404352891574),
    ("Guitar", 30, "Distortion Guitar", "elektrik_guitar.nkm", -14.950213772441467),
    ("Organ", 22, "Harmonica", "transistor_compact.nkm", -15.014937669817032),
    ("Organ", 22, "Harmonica", "transistor_compact.nkm", -17.26720499762028),
)
SOURCES = {"bass": (3,), "drums": (1,), "guitar": (0, 7, 8), "piano": (2,)}  # of TRACK_1
ELSEWHERE = "Volumes/data/manilow/generated_data/dataset3_last_file/Track00001/stems"  # issue 25
NIGHTOWL = "A Classic Education - NightOwl"  # the first song of MUSDB18


def slakh_metadata(audio_dir: str, flags: bool, silent: Sequence[int] = ()) -> str:
    """metadata.yaml of TRACK_1. ``flags``: audio_rendered and midi_saved of what was rendered;
    the stems ``silent`` were not."""
    lines = [
        "UUID: 1a81ae092884234f3264e2f45927f00a",
        f"audio_dir: {audio_dir}",
        "lmd_midi_dir: lmd_matched/O/O/H/TROOHTB128F931F9DF/1a81ae092884234f3264e2f45927f00a.mid",
        f"midi_dir: {audio_dir.replace('stems', 'MIDI')}",
        "normalization_factor: -13.0",
        "normalized: true",
        "overall_gain: 0.18270259567062658",
        "stems:",
    ]
    for k, (kind, program, name, plugin, loudness) in enumerate(TRACK_1):
        rendered = loudness is not None and k not in silent
        lines += [
            f"  S{k:02d}:",
            f"    audio_rendered: {str(flags and rendered).lower()}",
            f"    inst_class: {kind}",
            *([f"    integrated_loudness: {loudness}"] if rendered else []),
            f"    is_drum: {str(program == 128).lower()}",
            f"    midi_program_name: {name}",
            f"    midi_saved: {str(flags).lower()}",
            f"    plugin_name: {plugin if rendered else 'None'}",
            f"    program_num: {program}",
        ]
    return "\n".join([*lines, "target_peak: -1.0", ""])


def slakh_track(
    track: Path, audio_dir: str, flags: bool, rate: int, suffix: str, silent: Sequence[int] = ()
) -> dict[str, Any]:
    """A track of TRACK_1 with all its files; returns the sums of its stems in 16-bit steps."""
    (track / "MIDI").mkdir(parents=True)
    (track / "metadata.yaml").write_text(slakh_metadata(audio_dir, flags, silent))
    for name in ("all_src", *(f"MIDI/S{k:02d}" for k in range(len(TRACK_1)))):
        (track / f"{name}.mid").write_bytes(b"MThd")
    sounds: dict[int, Any] = {
        k: put(track / "stems" / f"S{k:02d}.{suffix}", noise(k, 400, 2000), rate)
        for k, (*_, loudness) in enumerate(TRACK_1)
        if loudness is not None and k not in silent
    }
    put(track / f"mix.{suffix}", sum(sounds.values()).astype(np.int16), rate)
    return {
        stem: sum(sounds.get(k, np.zeros(400, np.int64)) for k in ks)
        for stem, ks in SOURCES.items()
    }


def babyslakh(root: Path) -> dict[str, Any]:
    """Twenty tracks of 16 kHz in WAV without splits, here two, and every flag is false."""
    return {
        name: slakh_track(root / name, "stems", False, 16000, "wav")
        for name in ("Track00001", "Track00002")
    }


def slakh2100(root: Path) -> dict[str, Any]:
    """The original: three splits, FLAC of 44.1 kHz, every ``audio_dir`` is "stems"."""
    tracks = ("train/Track00001", "validation/Track01501", "test/Track01876")
    return {name: slakh_track(root / name, "stems", True, 44100, "flac") for name in tracks}


def slakh2100_redux(root: Path) -> dict[str, Any]:
    """slakh2100_flac_redux: a split more, ``audio_dir`` with the track's name, two odd tracks."""
    truth = {}
    for name in ("train/Track00001", "train/Track00446", "train/Track00616", "test/Track01876"):
        directory = ELSEWHERE if name.endswith("616") else f"{Path(name).name}/stems"
        silent = (0,) if name.endswith("446") else ()
        truth[name] = slakh_track(root / name, directory, True, 44100, "flac", silent)
    slakh_track(root / "validation" / "Track01501", "Track01501/stems", True, 44100, "flac")
    slakh_track(root / "omitted" / "Track00049", "Track00049/stems", True, 44100, "flac")
    return truth


def msdm(root: Path) -> dict[str, Any]:
    """A file a stem at 22,050 Hz, and the length of each, which MSDM's training keeps beside it."""
    truth: dict[str, Any] = {}
    for name in ("train/Track00001", "test/Track01876"):
        lacks = "piano" if name.startswith("test") else ""
        truth[name] = {
            stem: put(root / name / f"{stem}.wav", noise(k, 400), 22050)
            for k, stem in enumerate(SOURCES)
            if stem != lacks
        }
        for stem in truth[name]:
            (root / name / f"{stem}.wav.dur").write_text("0.018\n")
        truth[name] |= {lacks: np.zeros(400, np.int64)} if lacks else {}
    return truth


def musdb18hq(root: Path) -> dict[str, Any]:
    """Five stereo files a song; returns the songs' stems [time, channel] in 16-bit steps."""
    truth: dict[str, Any] = {}
    for name in (f"train/{NIGHTOWL}", "test/AM Contra - Heart Peripheral"):
        truth[name] = {
            stem: put(root / name / f"{stem}.wav", noise(k, 800, 2000).reshape(400, 2), 44100)
            for k, stem in enumerate(("bass", "drums", "other", "vocals"))
        }
        mixture = sum(truth[name].values()).astype(np.int16)
        put(root / name / "mixture.wav", mixture, 44100)
    return truth


def musdb18_song() -> Path:
    """Six seconds of a song of MUSDB18 as published: five streams of AAC and a picture."""
    spec = find_spec("stempeg")  # without its import, which wants ffmpeg on the PATH
    songs = [] if spec is None else [*Path(spec.origin or "").parent.glob("data/*.stem.mp4")]
    if not songs:
        pytest.skip("stempeg, which has the song, is not installed")
    return songs[0]


def moisesdb(root: Path) -> dict[str, Any]:
    """``moisesdb_v0.1/<uuid>``; returns the song's stems in 16-bit steps. A stem may come twice."""
    song = root / "moisesdb_v0.1" / "0a1cd98b-ba65-4bd5-9ca0-3f2e1f5ce5c1"
    parts = (  # stem, types of its tracks
        ("bass", ("bass_guitar", "bass_synthesizer")),
        ("drums", ("full_acoustic_drumkit",)),
        ("guitar", ("clean_electric_guitar",)),
        ("other_keys", ("synth_pad",)),
        ("percussion", ("a-tonal_percussion",)),
        ("vocals", ("lead_female_singer",)),
        ("guitar", ("acoustic_guitar",)),
    )
    stems, truth, number = [], {"piano": np.zeros((400, 2), np.int64)}, 0
    for place, (stem, kinds) in enumerate(parts):
        tracks = []
        for kind in kinds:
            number += 1
            part = f"5e1cd98b-ba65-4bd5-9ca0-{number:012d}"
            tracks.append(
                {
                    "id": part,
                    "trackType": kind,
                    "type": "audio/x-wav",
                    "extension": "wav",
                    "has_bleed": (None, False, True)[number % 3],
                }
            )
            sound = put(
                song / stem / f"{part}.wav", noise(number, 800, 2000).reshape(400, 2), 44100
            )
            name = stem if stem in ("bass", "drums", "guitar", "vocals") else "other"
            truth[name] = truth.get(name, 0) + sound
        stems.append(
            {"id": f"7f1cd98b-ba65-4bd5-9ca0-{place:012d}", "stemName": stem, "tracks": tracks}
        )
    listing = {"id": song.name, "song": "A", "artist": "B", "genre": "rock", "stems": stems}
    (song / "data.json").write_text(json.dumps(listing, indent=2))
    return {song.name: truth}


MEDLEYDB = Path(__file__).parent / "medleydb"
BEATLES, TESLA = "TheBeatles_Wait", "Tesla_ModernDayCowboy"
MEDLEYDB_STEMS = {  # of their metadata: which STEM_<number>.wav are of which stem
    BEATLES: {"bass": 2, "drums": 1, "guitar": 3, "vocals": 4},
    TESLA: {"drums": 1, "guitar": 2},
}


def medleydb(root: Path) -> dict[str, Any]:
    """``Audio/<track>``, one with its metadata and one whose metadata are in ``Metadata``."""
    import yaml

    truth: dict[str, Any] = {}
    for name, places in MEDLEYDB_STEMS.items():
        track, file = root / "Audio" / name, f"{name}_METADATA.yaml"
        metadata = yaml.safe_load((MEDLEYDB / file).read_text())
        put(track / metadata["mix_filename"], noise(0, 800).reshape(400, 2), 44100)
        silence = np.zeros((400, 2), np.int64)
        truth[name] = dict.fromkeys(
            ("bass", "drums", "guitar", "piano", "vocals", "other"), silence
        )
        for number, entry in enumerate(metadata["stems"].values(), 1):
            sound = noise(number, 800, 2000).reshape(400, 2)
            steps = put(track / metadata["stem_dir"] / entry["filename"], sound, 44100)
            for k, part in enumerate(entry["raw"].values()):
                put(track / metadata["raw_dir"] / part["filename"], noise(k, 400, 2000), 44100)
            for stem in (stem for stem, place in places.items() if place == number):
                truth[name][stem] = steps
        home = track if name == BEATLES else root / "Metadata"
        home.mkdir(exist_ok=True)
        shutil.copy(MEDLEYDB / file, home)
    return truth
