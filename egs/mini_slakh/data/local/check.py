"""Listen by numbers: a table of levels per stem, and a complaint about each broken track.

    python local/check.py OUT/train

Exit status 1 if a mix is not the sum of its stems, a stem is silent, or one sounds on while its
player rests.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import compose
import numpy as np
import soundfile
import tapes
import yaml
from levels import FRAME, active_rms
from score import STEMS
from tapes import SAMPLE_RATE

RING = 4.0  # seconds that a released note may take to fade
QUIET = 0.002


def read_track(track: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The mix and the sum of the parts of each stem, int32 [time]."""
    meta = yaml.safe_load((track / "metadata.yaml").read_text(encoding="utf-8"))["stems"]
    stems: dict[str, np.ndarray] = {}
    for name, part in meta.items():
        samples, _ = soundfile.read(track / "stems" / f"{name}.flac", dtype="int16")
        stem = part["inst_class"].lower()
        stems[stem] = stems.get(stem, 0) + samples.astype(np.int32)
    mix, _ = soundfile.read(track / "mix.flac", dtype="int16")
    return mix.astype(np.int32), stems


def complaints(
    track: Path, mix: np.ndarray, stems: dict[str, np.ndarray], pitch: float = 0.0
) -> list[str]:
    """`pitch` as the track was rendered with: its rests pass at its tape's speed."""
    found = []
    if set(stems) != set(STEMS):
        found.append(f"stems are {', '.join(sorted(stems))}")
    if not np.array_equal(mix, sum(stems.values())):
        found.append("the mix is not the sum of the stems")
    seconds = len(mix) / SAMPLE_RATE
    number = int(track.name.removeprefix("Track"))
    speed = tapes.draw(number, seconds, pitch).speed
    song = compose.compose(number, seconds * speed)
    for stem, samples in stems.items():
        if not samples.any():
            found.append(f"{stem} is silent")
        for start, stop in np.array(song.silent[stem]).reshape(-1, 2) / speed:
            resting = samples[
                round((start + RING) * SAMPLE_RATE) : round((stop - 0.1) * SAMPLE_RATE)
            ]
            if len(resting) and np.sqrt(np.mean((resting / 32768.0) ** 2)) > QUIET:
                found.append(f"{stem} sounds on during its rest at {start:.1f} s")
    return [f"{track.name}: {complaint}" for complaint in found]


def measure(samples: np.ndarray) -> dict[str, float]:
    """Active level, share of silent frames, spectral centroid in Hz and peak of one stem [time]."""
    wave = samples / 32768.0
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.abs(np.fft.rfft(frames)) ** 2
    frequencies = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    return {
        "active rms": active_rms(wave),
        "silent share": float((np.sqrt((frames**2).mean(axis=1)) < 1e-4).mean()),
        "centroid": float((power.sum(axis=0) * frequencies).sum() / max(power.sum(), 1e-12)),
        "peak": float(np.abs(wave).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    settings = json.loads(folder.with_name(f"{folder.name}.json").read_text(encoding="utf-8"))
    table: dict[tuple[str, str], list[float]] = defaultdict(list)
    broken: list[str] = []
    tracks = sorted(folder.glob("Track*"))
    for track in tracks:
        mix, stems = read_track(track)
        broken += complaints(track, mix, stems, settings.get("pitch", 0.0))
        for stem, samples in stems.items():
            for name, value in measure(samples).items():
                table[stem, name].append(value)
    print(f"{folder}: {len(tracks)} tracks; mean (least to most)")
    for (stem, name), values in sorted(table.items()):
        print(
            f"  {stem:7} {name:13} {np.mean(values):9.4f} ({min(values):.4f} to {max(values):.4f})"
        )
    if broken or not tracks:
        raise SystemExit("\n".join(broken or [f"error: no track in {folder}"]))


if __name__ == "__main__":
    main()
