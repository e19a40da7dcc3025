"""One prior out of several: independent sources, each with a denoiser trained on it alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgdm_audio.diffusion.denoiser import Denoiser
from mgdm_audio.diffusion.posterior import (
    Covariance,
    JacobianPosterior,
    Posterior,
    posterior_of,
)
from mgdm_audio.diffusion.prior import Prior
from mgdm_audio.errors import PairingError


class JointDenoiser:
    """Denoises every block of axis 1 by its own denoiser: exact where the blocks are independent.

    ``p(x_0) = prod_k p_k(x_0k)`` makes the score, and so the denoiser, fall apart by block.
    """

    def __init__(self, denoisers: Sequence[Denoiser], sizes: Sequence[int]) -> None:
        self.denoisers = tuple(denoisers)
        self.sizes = tuple(sizes)  # sources of each

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``[batch, sources, time]`` to the same, at ``sigma: []`` or ``[batch]``."""
        blocks = zip(self.denoisers, x.split(self.sizes, dim=1), strict=True)
        return torch.cat([denoiser(block, sigma) for denoiser, block in blocks], dim=1)

    def posterior(
        self, x: Tensor, sigma: Tensor, covariance: Covariance
    ) -> Posterior | JacobianPosterior:
        """``p(x_0 | x)``: means and variances of the blocks side by side.

        Raises ``PairingError`` for "band" or "reported" unless all know their variances in one and
        the same transform of each source.
        """
        if covariance in ("isotropic", "jacobian"):
            return posterior_of(self, x, sigma, covariance)
        split = zip(self.denoisers, x.split(self.sizes, dim=1), strict=True)
        blocks = [posterior_of(denoiser, block, sigma, covariance) for denoiser, block in split]
        known = [b for b in blocks if isinstance(b, Posterior) and b.separable]
        if len(known) < len(blocks) or len({_transform(block) for block in known}) > 1:
            raise PairingError(
                f"covariance={covariance!r} needs joined priors that report it in one transform; "
                "use covariance=isotropic"
            )
        size = torch.broadcast_shapes(*(block.variance[:, :1].shape for block in known))
        variance = [
            block.variance.expand(size[0], n, *size[2:])
            for block, n in zip(known, self.sizes, strict=True)
        ]
        mean = torch.cat([block.mean for block in known], 1)
        return Posterior(mean, torch.cat(variance, 1), known[0].transform)


def _transform(block: Posterior) -> tuple[type, int]:
    """What tells a transform from another: its kind and its number of bins."""
    return type(block.transform), block.variance.shape[-1]


def join(priors: Sequence[Prior]) -> Prior:
    """The prior of independent sources, one prior ``[1, time]`` each, in the order given.

    With MSDM's separator it is ISDM, the weakly supervised model of arXiv 2302.02257, which never
    saw two sources together. A prior may hold several sources too; those stay joint. Raises
    ``ValueError`` unless the priors share one schedule and every axis but that of the sources, and
    for a latent prior.
    """
    if not priors:
        raise ValueError("join takes at least one prior")
    first = priors[0]
    for k, prior in enumerate(priors):
        if prior.codec is not None:
            raise ValueError(f"prior {k} is latent: its sources share one code; join others")
        same = torch.equal(prior.schedule.alpha, first.schedule.alpha) and torch.equal(
            prior.schedule.sigma, first.schedule.sigma
        )
        if not same:
            raise ValueError(f"prior {k} has another noise schedule than prior 0; give them one")
        if prior.event_shape[1:] != first.event_shape[1:]:
            raise ValueError(
                f"prior {k} has events {prior.event_shape}, prior 0 {first.event_shape}: only the "
                "number of sources may differ; use with_event_shape"
            )
    sizes = [prior.event_shape[0] for prior in priors]
    denoiser = JointDenoiser([prior.denoiser for prior in priors], sizes)
    return Prior(denoiser, first.schedule, (sum(sizes), *first.event_shape[1:]))
