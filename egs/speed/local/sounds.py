"""Sounds to separate, the same for every system: decaying tones over noise, 16-bit WAV.

python sounds.py FOLDER --seconds 30 180 --channels 1 2 --files 2000 --file-seconds 2
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile

RATE = 44100  # Hz


def second(index: int, channels: int) -> np.ndarray:
    """Returns [sample, channel] of second ``index``: six tones of other pitches, and noise."""
    random = np.random.default_rng(index)
    time = np.arange(RATE) / RATE
    pitch = 60 * 2 ** (5 * random.random((channels, 6, 1)))
    tones = np.sin(2 * np.pi * pitch * time) * np.exp(-3 * time * pitch / 500)
    return (0.1 * tones.sum(1) + 0.03 * random.standard_normal((channels, RATE))).T


def make(path: Path, seconds: int, channels: int, first: int = 0) -> None:
    """Writes a file unless there is one."""
    if path.is_file():
        return
    partial = path.with_suffix(".partial")
    with soundfile.SoundFile(partial, "w", RATE, channels, "PCM_16", format="WAV") as file:
        for index in range(first, first + seconds):
            file.write(second(index, channels))
    partial.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=int, nargs="+", required=True)
    parser.add_argument("--channels", type=int, nargs="+", required=True)
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--file-seconds", type=int, required=True)
    arguments = parser.parse_args()
    many = arguments.folder / f"{arguments.files}x{arguments.file_seconds}s"
    (many if arguments.files else arguments.folder).mkdir(parents=True, exist_ok=True)
    for seconds in arguments.seconds:
        for channels in arguments.channels:
            make(arguments.folder / f"{seconds}s_{channels}.wav", seconds, channels)
    for index in range(arguments.files):
        make(many / f"{index:05d}.wav", arguments.file_seconds, 2, index)


if __name__ == "__main__":
    main()
