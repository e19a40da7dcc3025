"""How loud: each stem near the level that stems have in Slakh2100, and room for their sum."""

from __future__ import annotations

import random

import numpy as np

LEVEL = 0.045  # root mean square of a stem's active frames in Slakh2100
LEVEL_RANGE_DB = 3.0  # either way
PART_RANGE_DB = 2.0  # either way, between the parts of one stem
PEAK = 0.98
FRAME = 4096


def set_levels(
    names: list[str], waves: list[np.ndarray], rng: random.Random
) -> tuple[list[np.ndarray], float]:
    """Level the parts [time] of stems `names`; int16 parts that do not clip, nor does their sum.

    Parts of the same stem are levelled together, so that two guitars are as loud as one. Also
    returned: the gain that all parts share, 1.0 unless something would have clipped.
    """
    waves = [
        w / max(active_rms(w), 1e-9) * 10 ** (rng.uniform(-PART_RANGE_DB, PART_RANGE_DB) / 20)
        for w in waves
    ]
    for name in dict.fromkeys(names):
        places = [k for k, other in enumerate(names) if other == name]
        target = LEVEL * 10 ** (rng.uniform(-LEVEL_RANGE_DB, LEVEL_RANGE_DB) / 20)
        scale = target / max(active_rms(np.sum([waves[k] for k in places], axis=0)), 1e-9)
        for k in places:
            waves[k] = waves[k] * scale
    return _without_clipping(waves)


def set_together(waves: list[np.ndarray], rng: random.Random) -> tuple[list[np.ndarray], float]:
    """Bring the sum of `waves` [time] near LEVEL, by one gain; otherwise as `set_levels`."""
    target = LEVEL * 10 ** (rng.uniform(-LEVEL_RANGE_DB, LEVEL_RANGE_DB) / 20)
    scale = target / max(active_rms(np.sum(waves, axis=0)), 1e-9)
    return _without_clipping([wave * scale for wave in waves])


def _without_clipping(waves: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    peak = max(float(np.abs(wave).max()) for wave in [*waves, np.sum(waves, axis=0)])
    gain = min(1.0, PEAK / max(peak, 1e-9))
    return [np.rint(wave * gain * 32767).astype(np.int16) for wave in waves], gain


def active_rms(wave: np.ndarray) -> float:
    """Root mean square over the frames of [time] within 20 dB of the loudest."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    power = (frames**2).mean(axis=1)
    return float(np.sqrt(power[power >= 0.01 * power.max()].mean()))
