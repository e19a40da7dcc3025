"""Measures a denoiser's gain on interference between stems, outside its training distribution.

A guided sampler calls a denoiser on states x_0 + p + sigma eps, where the interference p sums to
zero over the stems, so that the mixture does not determine it. If the denoiser does not attenuate
p, a sampler with many calls diverges. The gain is

    |D(x_0 + p + sigma eps) - D(x_0 + sigma eps)| / |p|,

where p moves one stem's music to another stem, or is white noise, of rms c sigma in the stems
concerned. For comparison, the gain of a local-Gaussian prior with an exact denoiser is computed:
its MDCT coefficients are independent with the stems' own variances, smoothed over 3 x 3 frames and
bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio import tables
from mgdm_audio.diffusion.denoiser import Denoiser
from mgdm_audio.errors import UserError
from mgdm_audio.networks.mdct import MDCT
from mgdm_audio.rng import generator_for, randn

SIGMAS = (0.01, 0.03, 0.1, 0.3, 1.0)
LEVELS = (1.0, 3.0, 10.0)  # c
KINDS = ("music", "noise")
BINS = 1024  # MDCT bins of the local-Gaussian prior
RESTS = 1e-3  # times the loudest stem's power: a stem below it counts as silent


@dataclass(frozen=True)
class Kept:
    """The gains, each ``[kinds, sigmas, levels]``, as means over the examples."""

    prior: Tensor  # of the denoiser that is measured
    exact: Tensor  # of the local-Gaussian prior's


class LocalGaussian:
    """The exact denoiser of independent MDCT coefficients with known variances."""

    def __init__(self, x_0: Tensor) -> None:
        """Takes the variances of ``x_0: [examples, sources, time]``, ``BINS`` dividing time."""
        self.mdct = MDCT(BINS)
        power = self.mdct(x_0)[0] ** 2
        self.variance = F.avg_pool2d(power, 3, stride=1, padding=1, count_include_pad=False)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Returns E[x_0 | x] for ``x: [examples, sources, time]`` and ``sigma: []``."""
        gain = self.variance / (self.variance + sigma**2)
        return self.mdct.inverse(gain * self.mdct(x)[0])


def perturbations(x_0: Tensor, kind: str) -> Tensor:
    """Returns zero-sum perturbations of ``x_0: [examples, sources, time]``, with an rms of 1.

    ``music``: a stem's content, subtracted from it and added to another stem; the stem cycles over
    the examples, and a silent one is replaced by the loudest. ``noise``: white noise minus its mean
    over the stems. The random numbers are a function of the example's number.
    """
    sources, time = x_0.shape[1:]
    p = torch.zeros_like(x_0)
    for i, x in enumerate(x_0):
        generator = generator_for(0, "probe", kind, i)
        if kind == "music":
            power = x.square().mean(-1)
            moved, loudest = i % sources, int(power.argmax())
            moved = moved if float(power[moved]) > RESTS * float(power[loudest]) else loudest
            away = 1 + int(torch.randint(sources - 1, (), generator=generator))
            p[i, moved], p[i, (moved + away) % sources] = -x[moved], x[moved]
            rms = power[moved].sqrt()
        else:
            noise = randn((sources, time), generator=generator)
            p[i] = noise - noise.mean(0)
            rms = p[i].square().mean().sqrt()
        p[i] /= rms.clamp_min(1e-12)
    return p


@torch.no_grad()
def probe(
    denoiser: Denoiser,
    x_0: Tensor,
    on_call: Callable[[], object] = lambda: None,
) -> Kept:
    """Measures the gains of ``denoiser`` on ``x_0: [examples, sources >= 2, time]``.

    ``time`` is a multiple of ``BINS``. ``on_call`` is called after each of the ``examples x SIGMAS
    x (1 + KINDS x LEVELS)`` calls. Raises UserError for another shape and for a silent example.
    """
    examples, sources, time = x_0.shape
    if sources < 2 or time % BINS:
        raise UserError(f"a probe needs two stems, in multiples of {BINS} samples")
    if not bool((x_0.flatten(1).square().mean(1) > 1e-10).all()):
        raise UserError("a probe needs music in every segment; give fewer segments or other songs")
    moved = [perturbations(x_0, kind) for kind in KINDS]
    kept = torch.zeros(2, len(KINDS), len(SIGMAS), len(LEVELS))
    for i in range(examples):
        x, exact = x_0[i : i + 1], LocalGaussian(x_0[i : i + 1])
        for s, sigma in enumerate(torch.tensor(SIGMAS)):
            noisy = x + sigma * randn(x.shape, generator=generator_for(0, "probe noise", i, s))
            plain = [network(noisy, sigma) for network in (denoiser, exact)]
            on_call()
            for k, unit in enumerate(moved):
                for c, level in enumerate(LEVELS):
                    p = level * sigma * unit[i : i + 1]
                    for row, network in enumerate((denoiser, exact)):
                        difference = network(noisy + p, sigma) - plain[row]
                        kept[row, k, s, c] += difference.norm() / p.norm() / examples
                    on_call()
    return Kept(kept[0], kept[1])


def table(kept: Kept) -> str:
    """Returns a Markdown table of the gains by sigma, kind and level, exact ones in brackets."""
    heads = [f"{kind}, {level:g} sigma" for kind in KINDS for level in LEVELS]
    rows = []
    for s, sigma in enumerate(SIGMAS):
        pairs = zip(kept.prior[:, s].flatten(), kept.exact[:, s].flatten(), strict=True)
        rows.append([f"{sigma:g}", *(f"{mine:.2f} ({exact:.2f})" for mine, exact in pairs)])
    return tables.table(["sigma", *heads], rows, "r" * (1 + len(heads)))
