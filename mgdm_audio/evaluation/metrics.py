"""Signal-to-distortion ratios and their improvement over the mixture, in windows."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

EPS = 1e-8
ACTIVE = 1.5e-5  # the least ||x||_2 / samples of a stem that counts as active in a window
WINDOW, HOP = 4.0, 2.0  # seconds


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Returns the SI-SDR in dB over the last axis, in float64: [..., time] twice -> [...].

    It is ``10 log10((|a s|^2 + eps) / (|a s - e|^2 + eps))`` with ``a = (<e, s> + eps) /
    (|s|^2 + eps)``, eps = 1e-8 and no mean removal (Mariani et al. 2023, arXiv:2302.02257,
    evaluation code). It is finite for silence too: for a silent reference eps determines the value,
    which then measures how silent the estimate is.
    """
    e, s = estimate.double(), reference.double()
    scale = ((e * s).sum(-1, keepdim=True) + EPS) / (s.square().sum(-1, keepdim=True) + EPS)
    target = scale * s
    noise = target - e
    return 10 * ((target.square().sum(-1) + EPS) / (noise.square().sum(-1) + EPS)).log10()


def sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Returns the SDR in dB over the last axis, in float64: [..., time] twice -> [...].

    It is 10 log10((||s||^2 + eps) / (||s - e||^2 + eps)) with eps = 1e-8. Over a whole track this
    is the SDR of the Music Demixing Challenge (Mitsufuji et al. 2022, arXiv:2108.13559, with
    eps = 1e-7). A silent estimate has 0 dB.
    """
    e, s = estimate.double(), reference.double()
    return 10 * ((s.square().sum(-1) + EPS) / ((s - e).square().sum(-1) + EPS)).log10()


def windows(time: int, sample_rate: int) -> list[slice]:
    """Returns windows of 4 s every 2 s, ceil((time - 2 s) / 2 s) of them; the last may be short."""
    window, hop = int(WINDOW * sample_rate), int(HOP * sample_rate)
    count = max(0, math.ceil((time - (window - hop)) / hop))
    return [slice(i * hop, min(i * hop + window, time)) for i in range(count)]


def si_sdr_improvement(
    estimates: Tensor, references: Tensor, sample_rate: int, mixture: Tensor | None = None
) -> Tensor:
    """Returns SI-SDR of the estimate minus that of the mixture, in dB: [window, stem], float64.

    estimates, references: [stem, time] or [stem, channel, time] (channels are concatenated to one
    vector); mixture: without the stem axis, by default the sum of the references. Windows with
    fewer than two active references are skipped; silent references in other windows are scored like
    others. If all are skipped, ``why_none`` gives the reason. Raises ValueError for unequal shapes.
    """
    mixture = _checked(estimates, references, mixture)
    rows = []
    for part, _ in _kept(references, sample_rate):
        s, e = references[..., part].flatten(1), estimates[..., part].flatten(1)
        rows.append(si_sdr(e, s) - si_sdr(mixture[..., part].flatten(), s))
    return torch.stack(rows) if rows else references.new_zeros(0, len(references)).double()


def by_activity(
    estimates: Tensor, references: Tensor, sample_rate: int, mixture: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns (SI-SDR improvement, leakage) in dB by activity: [window, stem] each, float64.

    The improvement is that of stems active in a window, NaN for silent ones. The leakage is the
    estimate's energy over the mixture's, at least -90 dB, for silent stems, NaN for active ones.
    ``si_sdr_improvement`` averages both kinds, and the unbounded improvement of silent stems
    dominates it. Arguments and errors are the same.
    """
    mixture = _checked(estimates, references, mixture)
    gains, leaks = [], []
    for part, sounds in _kept(references, sample_rate):
        s, e = references[..., part].flatten(1).double(), estimates[..., part].flatten(1).double()
        y = mixture[..., part].flatten().double()
        gains.append((si_sdr(e, s) - si_sdr(y, s)).masked_fill(~sounds, torch.nan))
        leak = 10 * (e.square().sum(-1) / y.square().sum() + 1e-9).log10()
        leaks.append(leak.masked_fill(sounds, torch.nan))
    if not gains:
        return (references.new_zeros(0, len(references)).double(),) * 2
    return torch.stack(gains), torch.stack(leaks)


def _checked(estimates: Tensor, references: Tensor, mixture: Tensor | None) -> Tensor:
    if estimates.shape != references.shape:
        raise ValueError(f"shapes differ: {tuple(estimates.shape)}, {tuple(references.shape)}")
    return references.sum(0) if mixture is None else mixture


def has_window(references: Tensor, sample_rate: int) -> bool:
    """Returns whether ``si_sdr_improvement`` has a window of these references to score."""
    return any(True for _ in _kept(references, sample_rate))


def _kept(references: Tensor, sample_rate: int) -> Iterator[tuple[slice, Tensor]]:
    """Yields the windows with two or more active references, and a mask of these."""
    for part in windows(references.shape[-1], sample_rate):
        s = references[..., part].double().flatten(1)
        active = s.norm(dim=-1) / s.shape[-1] >= ACTIVE
        if active.sum() >= 2:
            yield part, active


def why_none(time: int, sample_rate: int) -> str:
    """Returns why ``si_sdr_improvement`` skipped all windows."""
    if not windows(time, sample_rate):
        return f"{time / sample_rate:.2f} s long, and a window needs more than {WINDOW - HOP:g} s"
    return "no window has two active stems"
