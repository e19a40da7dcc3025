"""Gravis UltraSound patches (.pat) as SoundFont zones.

Layout: header of 129 bytes, instrument of 63, layer of 47, then per sample a header of 96 bytes and
its data. Frequencies are in mHz, sizes and loops in bytes.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import sf2
from sf2_format import ATTACK, DECAY, LOOPS, RELEASE, SUSTAIN, timecents

BITS_16, UNSIGNED, LOOPED, PING_PONG, REVERSED, SUSTAINED, ENVELOPE = (1 << k for k in range(7))
RANGE_CENTIBELS = 360.0  # of an envelope's 256 levels: 6 octaves of amplitude


def read(path: Path) -> list[sf2.Zone]:
    """The zones of a patch's first instrument. ValueError if it is not a patch."""
    data = path.read_bytes()
    if data[:11] != b"GF1PATCH110" or len(data) < 239:
        raise ValueError(f"{path}: not a Gravis UltraSound patch")
    position, zones = 239, []
    for k in range(data[198]):  # the number of samples of the first layer
        size, loop, loop_end = struct.unpack_from("<III", data, position + 8)
        rate, low, high, root = struct.unpack_from("<HIII", data, position + 20)
        rates, levels = data[position + 37 : position + 43], data[position + 43 : position + 49]
        modes = data[position + 55]
        raw = data[position + 96 : position + 96 + size]
        position += 96 + size
        wide = bool(modes & BITS_16)
        wave = _decode(raw, modes)
        span: tuple[int, int] | None = None
        if modes & LOOPED and loop_end > loop:
            span = (loop >> wide, min(loop_end >> wide, len(wave)))
            if modes & PING_PONG:  # SoundFonts loop forwards only: append the way back
                way_back = wave[span[0] : span[1]][::-1]
                wave = np.concatenate([wave[: span[1]], way_back])
                span = (span[0], len(wave))
            elif span[1] > span[0]:
                wave = _smooth_join(wave, span, rate // 100)
        note = 69 + 12 * np.log2(root / 440e3)
        key = int(np.clip(round(note), 0, 127))
        sample = sf2.Sample(
            f"{path.stem[:14]} {k}", wave, rate, key, round(100 * (key - note)), span
        )
        keys = (_key(low), max(_key(low), _key(high)))
        generators = {LOOPS: 1 if span else 0}
        if modes & ENVELOPE:
            generators |= _envelope(rates, levels, bool(modes & SUSTAINED))
        zones.append(sf2.Zone(sample, keys, generators=generators))
    return zones


def _decode(raw: bytes, modes: int) -> np.ndarray:
    if modes & BITS_16:
        wave = np.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(np.int32)
    else:
        wave = np.frombuffer(raw, np.int8).astype(np.int32) * 256
    if modes & UNSIGNED:
        wave = np.where(wave < 0, wave + 32768, wave - 32768)
    if modes & REVERSED:
        wave = wave[::-1]
    return wave.astype(np.int16)


def _smooth_join(wave: np.ndarray, loop: tuple[int, int], length: int) -> np.ndarray:
    """Fade in, at the loop's end, what leads into its start: the jump back does not click."""
    start, stop = loop
    length = min(length, start, (stop - start) // 4)
    if length < 2:
        return wave
    rise = np.linspace(0, 1, length)
    joined = wave.astype(np.float64)
    ending = joined[stop - length : stop] * (1 - rise) + joined[start - length : start] * rise
    joined[stop - length : stop] = ending
    return np.round(joined).astype(np.int16)


def _key(frequency: int) -> int:
    return int(np.clip(round(69 + 12 * np.log2(max(frequency, 8000) / 440e3)), 0, 127))


def _envelope(rates: bytes, levels: bytes, sustained: bool) -> dict[int, int]:
    """Attack, decay, sustain level and release of the six-stage envelope (levels 0..255)."""
    seconds = [_seconds(rate) for rate in rates]
    peak = max(int(np.argmax(levels[:3])), 0)
    attack = sum(
        seconds[k] * abs(levels[k] - (levels[k - 1] if k else 0)) / 255 for k in range(peak + 1)
    )
    fall = RANGE_CENTIBELS * (levels[peak] - levels[2]) / 255
    decay = sum(seconds[k] * (levels[k - 1] - levels[k]) / 255 for k in range(peak + 1, 3))
    release = seconds[3] * (levels[2] - levels[3]) / 255 + 1e-3
    dropped = max(1.0, RANGE_CENTIBELS * (levels[2] - levels[3]) / 255)
    generators = {
        ATTACK: timecents(attack),
        RELEASE: timecents(min(2.0, max(0.1, release * 1000 / dropped))),
    }
    if fall > 5:
        generators[SUSTAIN] = round(fall if sustained else 1000)
        generators[DECAY] = timecents(max(decay, 1e-3) * 1000 / fall)
    return generators


def _seconds(rate: int) -> float:
    """Time of a full sweep at an envelope rate: a 6-bit step and a 2-bit range of factors of 8."""
    step = max(1, rate & 63) << 3 * (3 - (rate >> 6))
    return 255 * 2**22 / (step * 44100 * 2**9)
