"""Electric guitars through an amplifier: two stages that clip softly, and a loudspeaker cabinet.

The stages work at four times the sample rate, so that the overtones that they add fold back far
below the signal. The cabinet is a convolution with an impulse response of the Debian package
guitarix-common.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from effects import SAMPLE_RATE, biquad
from levels import active_rms
from scipy.signal import fftconvolve, resample, resample_poly
from score import Part

CABINETS = Path("usr/share/gx_head/sounds")  # under the folder of fetch_programs.py
FOLDERS = ("amps", "bands")
OVERSAMPLING = 4
CLEAN = 27  # the program whose sound goes into the amplifier of an overdriven guitar
DRIVE_DB = {26: (-12, 6), 27: (-10, 12), 28: (-6, 14), 29: (8, 24), 30: (20, 40)}  # by program
LONGEST = 0.15  # seconds of an impulse response that are used


@dataclass(frozen=True)
class Amplifier:
    """`drive_db`: level of the signal, of rms 1, over that at which a stage clips."""

    cabinet: Path
    drive_db: float
    tight: float  # Hz, below which little is distorted
    middle: float  # Hz, of the emphasis before the stages
    bias: float  # of the first stage; gives even overtones

    def play(self, wave: np.ndarray) -> np.ndarray:
        """`wave` float32 [time] at 22,050 Hz through the amplifier, as long and as loud."""
        level = active_rms(wave)
        if level < 1e-7:
            return wave
        out = biquad((wave / level).astype(np.float32), "highpass", self.tight, 0.7)
        out = biquad(out, "peak", self.middle, 0.6, 6.0)
        fast = resample_poly(out, OVERSAMPLING, 1)
        half = np.float32(10 ** (self.drive_db / 40))  # each stage has half of the gain, in dB
        fast = np.tanh(half * fast + np.float32(self.bias)) - np.float32(math.tanh(self.bias))
        fast = np.tanh(half * fast)
        out = resample_poly(fast, 1, OVERSAMPLING)[: len(wave)]
        out = fftconvolve(out, impulse_response(self.cabinet))[: len(wave)]
        out = biquad(out.astype(np.float32), "highpass", 30.0, 0.7)  # what the bias left at 0 Hz
        return (out * (level / max(active_rms(out), 1e-9))).astype(np.float32)


def draw(number: int, place: int, part: Part, share: float, debian: Path) -> Amplifier | None:
    """In a `share` of the songs, the amplifier of the electric guitar at `place`; else None."""
    if part.stem != "guitar" or part.program not in DRIVE_DB:
        return None
    if random.Random(f"amps {number}").random() >= share:
        return None
    rng = random.Random(f"amp {number} {place}")
    drive = rng.uniform(*DRIVE_DB[part.program])
    return Amplifier(
        rng.choice(cabinets(debian)),
        drive,
        tight=rng.uniform(40, 70 + 4 * max(0.0, drive)),
        middle=rng.uniform(500, 1500),
        bias=rng.uniform(0, 0.3),
    )


@cache
def cabinets(debian: Path) -> list[Path]:
    """Impulse responses under `debian`. OSError where there are none."""
    found = [p for one in FOLDERS for p in sorted((debian / CABINETS / one).glob("*.wav"))]
    if not found:
        raise OSError(f"no impulse responses in {debian / CABINETS}; run local/fetch_programs.py")
    return found


@cache
def impulse_response(path: Path) -> np.ndarray:
    """float32 [time] at 22,050 Hz, of energy 1."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = wave.mean(axis=1)[: round(LONGEST * rate)]
    out = resample(np.pad(mono, (0, len(mono))), round(2 * len(mono) * SAMPLE_RATE / rate))
    out = out[: len(out) // 2]
    return (out / np.sqrt((out**2).sum())).astype(np.float32)
