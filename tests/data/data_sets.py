"""A tree in the form of Slakh2100 with everything that goes wrong in one, 22,050 Hz, 16 bits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE, FRAMES = 22050, 3000
Samples = np.ndarray  # [time] int16


def noise(seed: int, frames: int = FRAMES, peak: int = 8000) -> Samples:
    return np.random.default_rng(seed).integers(-peak, peak + 1, frames).astype(np.int16)


def put(path: Path, samples: Samples, rate: int = RATE) -> Samples:
    """Write ``samples``, [time] or [time, channel], and return them as int64, to be summed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return samples.astype(np.int64)


def entry(program: int, is_drum: bool = False, **more: Any) -> dict[str, Any]:
    """A stem in metadata.yaml."""
    return {"audio_rendered": True, "is_drum": is_drum, "program_num": program} | more


def metadata(track: Path, stems: dict[str, Any], **more: Any) -> None:
    """metadata.yaml; JSON is YAML."""
    track.mkdir(parents=True, exist_ok=True)
    (track / "metadata.yaml").write_text(json.dumps({"audio_dir": "stems", "stems": stems} | more))


def small_track(track: Path, seed: int, rate: int = RATE, suffix: str = "flac") -> dict[str, Any]:
    """One source a stem; returns the integers of each."""
    programs = {"bass": 33, "drums": 128, "guitar": 25, "piano": 0}
    metadata(track, {f"S{k:02d}": entry(p, p == 128) for k, p in enumerate(programs.values())})
    return {
        stem: put(track / "stems" / f"S{k:02d}.{suffix}", noise(seed + k), rate)
        for k, stem in enumerate(programs)
    }


def slakh_tree(root: Path) -> dict[str, dict[str, Any]]:
    """Write the tree; returns "split/track" -> stem -> sum in 16-bit steps, of the whole tracks."""
    one = root / "train" / "Track00001"
    metadata(
        one,
        {
            "S00": entry(0),
            "S01": entry(33),
            "S02": entry(27),
            "S03": entry(30),
            "S04": entry(33, is_drum=True),
            "S05": entry(48),
            "S06": entry(35, audio_rendered=False),
            "S07": entry(5),
            "S08": entry(39),
        },
        audio_dir="elsewhere",
    )
    audio = one / "stems"
    piano = put(audio / "S00.flac", noise(0))
    bass = put(audio / "S01.wav", noise(1))
    guitar = put(audio / "S02.flac", noise(2, FRAMES - 700))
    other_guitar = put(audio / "S03.flac", noise(3))
    drums = put(audio / "S04.flac", noise(4))
    put(audio / "S05.flac", noise(5, FRAMES + 50))  # of no stem: longer ones do not count
    other_bass = put(audio / "S08.flac", noise(8))
    put(audio / "S08.wav", noise(80))
    put(audio / "S09.flac", noise(9))
    put(one / "mix.flac", noise(10))
    truth = {
        "train/Track00001": {
            "bass": bass + other_bass,
            "drums": drums,
            "guitar": np.pad(guitar, (0, 700)) + other_guitar,
            "piano": piano,
        }
    }
    two = root / "train" / "Track00002"
    metadata(two, {"S00": entry(32), "S01": entry(32)})
    loud = put(two / "stems" / "S00.flac", np.full(50, 30000, np.int16))
    louder = put(two / "stems" / "S01.flac", np.full(50, 20001, np.int16))
    silence = np.zeros(50, np.int64)
    truth["train/Track00002"] = {
        "bass": loud + louder,
        "drums": silence,
        "guitar": silence,
        "piano": silence,
    }
    small_track(root / "train" / "Track00003", 30)
    (root / "train" / "Track00003" / "stems" / "S01.flac").write_bytes(b"")
    for number, suffix, cut in ((4, "flac", 60), (5, "wav", 2)):
        small_track(track := root / "validation" / f"Track{number:05d}", 10 * number, RATE, suffix)
        path = track / "stems" / f"S02.{suffix}"
        path.write_bytes(path.read_bytes()[:-cut])
    small_track(track := root / "validation" / "Track00006", 60)
    (track / "metadata.yaml").write_text("stems: {S00: [unclosed")
    small_track(track := root / "validation" / "Track00007", 70)
    (track / "metadata.yaml").unlink()
    for split in ("validation", "test"):
        small_track(root / split / "Track00008", 80)
    derived = root / "test" / "Track00009"
    truth["test/Track00009"] = {
        stem: put(derived / f"{stem}.wav", noise(90 + k))
        for k, stem in enumerate(("bass", "drums", "guitar"))
    } | {"piano": np.zeros(FRAMES, np.int64)}
    put(derived / "mixture.wav", noise(99))
    small_track(root / "omitted" / "Track00010", 100)
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "notes.txt").write_text("no track")
    return truth
