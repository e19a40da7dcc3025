"""Measures discontinuities of a separated track where two segments join."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgdm_audio.evaluation.spectral import MEL_FLOOR
from mgdm_audio.separation.uncertainty import band_edges, band_power

MEASURES = ("level", "spectrum", "click")


def steps(stems: Tensor, cuts: Sequence[int], sample_rate: int, window: float) -> Tensor:
    """Returns differences in dB between before and after each of ``cuts``: [measure, stem, cut].

    stems: [stem, time]; cuts: sample numbers, each with a ``window`` (seconds) on either side. The
    ``MEASURES`` compare powers in dB, clamped at -80 dB:

    level     the absolute difference of the power;
    spectrum  the mean absolute difference over 32 mel bands of Hann-windowed power;
    click     the mean over these bands of the excess in a window across the cut over both others.

    Raises ValueError for a cut too near an end.
    """
    length, edges = round(window * sample_rate), band_edges(sample_rate)
    hann = torch.hann_window(length, periodic=False, dtype=torch.float64)
    found = []
    for cut in cuts:
        if not length <= cut <= stems.shape[-1] - length:
            raise ValueError(f"cut {cut}: needs {length} samples of {stems.shape[-1]} around it")
        before, across, after = (
            stems[:, start : start + length].double()
            for start in (cut - length, cut - length // 2, cut)
        )
        level = _db(after.square().mean(-1)) - _db(before.square().mean(-1))
        a, b, c = (
            _db(band_power(hann * x, length, edges, sample_rate)[:, 0] / hann.square().sum())
            for x in (before, across, after)
        )
        click = (b - torch.maximum(a, c)).clamp_min(0)
        found.append(torch.stack([level.abs(), (c - a).abs().mean(-1), click.mean(-1)]))
    return torch.stack(found, -1)


def _db(power: Tensor) -> Tensor:
    return 10 * power.clamp_min(MEL_FLOOR).log10()
