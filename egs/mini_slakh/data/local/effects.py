"""A random chain of effects for one part: amplifier, compressor, equaliser, modulation, echo, room.

Mono, 22,050 Hz; wetness is bounded, so that the instrument stays what it is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
from levels import active_rms
from scipy.signal import fftconvolve, lfilter, resample_poly, sosfilt

SAMPLE_RATE = 22050
DRY = 0.33  # share of the parts that no effect touches
AMPLIFIED = {"bass": 0.2, "drums": 0.05, "guitar": 0.25, "piano": 0.06, "other": 0.06}
OVERDRIVEN = (29, 30)  # General MIDI programs that mostly play through an amplifier
DRIVE_DB = {
    "bass": (-14.0, 14.0), "drums": (-12.0, 6.0), "guitar": (-14.0, 16.0), "piano": (-12.0, 8.0),
    "other": (-12.0, 8.0),
    "overdriven": (4.0, 38.0),
}  # fmt: skip
Effect = Callable[[np.ndarray, random.Random], np.ndarray]


def apply(
    stem: str,
    wave: np.ndarray,
    rng: random.Random,
    program: int = 0,
    amplified: float | None = None,
) -> np.ndarray:
    """`wave` float32 [time] through effects drawn from `rng` alone; same length and same level.

    `amplified` is the chance of an amplifier, where it is not to follow from stem and program.
    """
    level = active_rms(wave)
    if level < 1e-7:
        return wave
    out = wave / np.float32(level)
    chance = AMPLIFIED[stem]
    if stem == "guitar" and program in OVERDRIVEN:
        chance = 0.75
    if amplified is not None:
        chance = amplified
    is_dry = rng.random() < DRY
    if rng.random() < chance and (not is_dry or amplified is not None):
        least, most = DRIVE_DB["overdriven" if program in OVERDRIVEN else stem]
        out = amplifier(out, rng, drive_db=rng.uniform(least, most))
    if not is_dry:
        for effect, share in CHAIN[stem]:
            if rng.random() < share:
                out = effect(out, rng)
    return (out * np.float32(level / max(active_rms(out), 1e-9))).astype(np.float32)


def amplifier(wave: np.ndarray, rng: random.Random, drive_db: float) -> np.ndarray:
    """Tone filter, asymmetric tanh at twice the sample rate, cabinet; level 1 in and out."""
    pre = biquad(wave, "highpass", rng.uniform(40, 60 + 6 * max(0.0, drive_db)), 0.7)
    pre = biquad(pre, "peak", rng.uniform(400, 1600), 0.6, rng.uniform(-3, 8))
    drive, bias = 10 ** (drive_db / 20), rng.uniform(0, 0.4)
    fast = resample_poly(pre.astype(np.float32), 2, 1) * np.float32(drive)
    if rng.random() < 0.25:  # harder clipping
        shaped = np.clip(fast + bias, -1.0, 1.0) - bias
    else:
        shaped = np.tanh(fast + np.float32(bias)) - np.float32(math.tanh(bias))
    out = resample_poly(shaped.astype(np.float32), 1, 2)[: len(wave)]
    out = biquad(out, "highpass", rng.uniform(30, 110), 0.7)
    if drive_db > 6 or rng.random() < 0.5:  # cabinet: resonance, presence, steep low-pass
        out = biquad(out, "peak", rng.uniform(80, 180), 1.2, rng.uniform(0, 5))
        out = biquad(out, "peak", rng.uniform(1800, 3800), 0.9, rng.uniform(-2, 11))
        out = biquad(out, "lowpass", rng.uniform(3200, 7000), rng.uniform(0.6, 1.0))
        out = biquad(out, "lowpass", rng.uniform(4500, 9000), 0.7)
    return _level(out)


def equaliser(wave: np.ndarray, rng: random.Random) -> np.ndarray:
    out = biquad(wave, "lowshelf", math.exp(rng.uniform(4.4, 6.0)), 0.7, rng.uniform(-7, 5))
    out = biquad(out, "highshelf", math.exp(rng.uniform(7.0, 8.6)), 0.7, rng.uniform(-9, 7))
    for _ in range(rng.randrange(3)):
        frequency, gain = math.exp(rng.uniform(5.3, 8.5)), rng.uniform(-7, 6)
        out = biquad(out, "peak", frequency, rng.uniform(0.5, 2.0), gain)
    if rng.random() < 0.12:
        out = biquad(out, "lowpass", rng.uniform(2500, 7000), 0.7)
    return out


def compressor(wave: np.ndarray, rng: random.Random) -> np.ndarray:
    """Threshold -14 to 2 dB about the active level, ratio 2 to 8, by the level of 5 ms blocks."""
    block = 110
    blocks = -(-len(wave) // block)
    padded = np.pad(wave, (0, blocks * block - len(wave))).reshape(blocks, block)
    loud = 10 * np.log10((padded.astype(np.float64) ** 2).mean(axis=1) + 1e-8)
    over = np.maximum(0.0, loud - rng.uniform(-14, 2)) * (1 - 1 / rng.uniform(2, 8))
    rise = math.exp(-0.005 / rng.uniform(0.001, 0.04))
    fall = math.exp(-0.005 / rng.uniform(0.05, 0.4))
    gain, held = [], 0.0
    for target in over.tolist():
        held = target + (held - target) * (rise if target > held else fall)
        gain.append(-held)
    centres = (np.arange(blocks) + 0.5) * block
    curve = np.interp(np.arange(len(wave)), centres, 10 ** (np.array(gain) / 20))
    return _level(wave * curve.astype(np.float32))


def chorus(wave: np.ndarray, rng: random.Random) -> np.ndarray:
    """One to three copies at slowly changing delays; a flanger where the delays are short."""
    flanger = rng.random() < 0.35
    out = wave.copy()
    for _ in range(1 if flanger else rng.randint(1, 3)):
        base = rng.uniform(0.0015, 0.005) if flanger else rng.uniform(0.008, 0.025)
        depth = base * rng.uniform(0.1, 0.6) if flanger else rng.uniform(0.0003, 0.0025)
        delay = base + depth * _wobble(len(wave), rng, rng.uniform(0.1, 1.2))
        copy = np.interp(_time(len(wave)) - delay * SAMPLE_RATE, _time(len(wave)), wave)
        out += np.float32(rng.uniform(0.2, 0.7)) * copy.astype(np.float32)
    return out


def tremolo(wave: np.ndarray, rng: random.Random) -> np.ndarray:
    depth = rng.uniform(0.1, 0.6)
    return wave * (1 - depth / 2 + depth / 2 * _wobble(len(wave), rng, rng.uniform(2.5, 8)))


def phaser(wave: np.ndarray, rng: random.Random) -> np.ndarray:
    """The notches of two chains of all-passes, swept from one to the other and back."""
    sweep = np.float32(0.5) + np.float32(0.5) * _wobble(len(wave), rng, rng.uniform(0.1, 1.0))
    copies = []
    for low, high in ((200, 600), (900, 2500)):
        tangent = math.tan(math.pi * rng.uniform(low, high) / SAMPLE_RATE)
        pole = (tangent - 1) / (tangent + 1)
        up, down = np.poly1d([pole, 1]) ** 4, np.poly1d([1, pole]) ** 4
        copies.append(lfilter(up.coeffs, down.coeffs, wave).astype(np.float32))
    return wave + np.float32(rng.uniform(0.3, 0.9)) * (sweep * copies[0] + (1 - sweep) * copies[1])


def echo(wave: np.ndarray, rng: random.Random) -> np.ndarray:
    """Up to four repeats 70 to 500 ms apart, each duller; the first 8 to 20 dB down."""
    delay = round(SAMPLE_RATE * rng.uniform(0.07, 0.5))
    gain, repeated = 10 ** (rng.uniform(-20, -8) / 20), wave
    feedback, cutoff = rng.uniform(0.1, 0.55), rng.uniform(1500, 6000)
    out = wave.copy()
    for k in range(1, 5):
        if k * delay >= len(wave):
            break
        repeated = biquad(repeated, "lowpass", cutoff, 0.7)
        out[k * delay :] += np.float32(gain * feedback ** (k - 1)) * repeated[: -k * delay]
    return out


def reverb(wave: np.ndarray, rng: random.Random) -> np.ndarray:
    """Convolved with a synthetic room: 0.15 s to 2.8 s; the room 6 to 26 dB below the part."""
    seconds = 0.15 * (2.8 / 0.15) ** rng.random()
    wet = 10 ** (rng.uniform(-26, -6) / 20)
    room = impulse_response(seconds, rng)
    tail = fftconvolve(wave, room)[: len(wave)].astype(np.float32)
    return wave + tail * np.float32(wet / max(active_rms(tail), 1e-9))


def impulse_response(seconds: float, rng: random.Random) -> np.ndarray:
    """Early reflections, then noise that loses 60 dB in `seconds`, its treble earlier; [time]."""
    noise = np.random.default_rng(rng.getrandbits(64))
    length = round(seconds * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    white = noise.standard_normal(length)
    dull = biquad(white, "lowpass", rng.uniform(700, 3000), 0.6)
    decay = 6.91 / seconds
    tail = dull * np.exp(-decay * time)
    tail += rng.uniform(0.1, 0.8) * white * np.exp(-decay * rng.uniform(1.5, 4) * time)
    tail *= 1 - np.exp(-time / rng.uniform(0.002, 0.02))
    early = noise.integers(1, max(2, round(0.05 * SAMPLE_RATE)), 8)
    tail[early[early < length]] += rng.uniform(0.5, 3) * noise.uniform(
        -1, 1, (early < length).sum()
    )
    delay = round(rng.uniform(0, 0.03) * SAMPLE_RATE)
    return np.pad(biquad(tail, "highpass", rng.uniform(80, 300), 0.7), (delay, 0)).astype(
        np.float32
    )


def biquad(
    wave: np.ndarray, kind: str, frequency: float, quality: float, gain_db: float = 0.0
) -> np.ndarray:
    """Second-order filter: Bristow-Johnson, Cookbook formulae for audio EQ (1998). Hz, dB."""
    omega = 2 * math.pi * min(frequency, 0.48 * SAMPLE_RATE) / SAMPLE_RATE
    cos, alpha, a = math.cos(omega), math.sin(omega) / (2 * quality), 10 ** (gain_db / 40)
    side = 2 * math.sqrt(a) * alpha
    if kind == "lowpass":
        section = [(1 - cos) / 2, 1 - cos, (1 - cos) / 2, 1 + alpha, -2 * cos, 1 - alpha]
    elif kind == "highpass":
        section = [(1 + cos) / 2, -1 - cos, (1 + cos) / 2, 1 + alpha, -2 * cos, 1 - alpha]
    elif kind == "bandpass":
        section = [alpha, 0.0, -alpha, 1 + alpha, -2 * cos, 1 - alpha]
    elif kind == "peak":
        section = [1 + alpha * a, -2 * cos, 1 - alpha * a, 1 + alpha / a, -2 * cos, 1 - alpha / a]
    else:
        sign = -1 if kind == "lowshelf" else 1
        up, down = (a + 1) + sign * (a - 1) * cos, (a + 1) - sign * (a - 1) * cos
        section = [
            a * (up + side), -2 * sign * a * ((a - 1) + sign * (a + 1) * cos), a * (up - side),
            down + side, 2 * sign * ((a - 1) - sign * (a + 1) * cos), down - side,
        ]  # fmt: skip
    normal = np.array([section]) / section[3]
    return sosfilt(normal, wave).astype(wave.dtype)


def _time(length: int) -> np.ndarray:
    return np.arange(length, dtype=np.float64)


def _wobble(length: int, rng: random.Random, rate: float) -> np.ndarray:
    """A slow sine between -1 and 1 at `rate` Hz, float32 [time]."""
    phase = np.float32(rng.uniform(0, 2 * math.pi))
    return np.sin(
        np.arange(length, dtype=np.float32) * np.float32(2 * math.pi * rate / SAMPLE_RATE) + phase
    )


def _level(wave: np.ndarray) -> np.ndarray:
    return wave / np.float32(max(active_rms(wave), 1e-9))


CHAIN: dict[str, tuple[tuple[Effect, float], ...]] = {  # in order, each with its probability
    "bass": ((compressor, 0.5), (equaliser, 0.7), (chorus, 0.1), (phaser, 0.03), (reverb, 0.15)),
    "drums": ((compressor, 0.4), (equaliser, 0.7), (echo, 0.03), (reverb, 0.6)),
    "guitar": (
        (compressor, 0.35), (equaliser, 0.7), (phaser, 0.07), (chorus, 0.2), (tremolo, 0.07),
        (echo, 0.2), (reverb, 0.6),
    ),
    "piano": (
        (compressor, 0.25), (equaliser, 0.7), (phaser, 0.04), (chorus, 0.1), (tremolo, 0.05),
        (echo, 0.06), (reverb, 0.6),
    ),
    "other": (
        (compressor, 0.35), (equaliser, 0.7), (phaser, 0.03), (chorus, 0.1), (echo, 0.15),
        (reverb, 0.6),
    ),
}  # fmt: skip
