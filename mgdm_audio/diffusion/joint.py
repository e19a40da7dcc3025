"""A prior of independent sources, made of a prior for each source."""

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
    """Denoises every block of axis 1 by its own denoiser, which is exact for independent blocks.

    For ``p(x_0) = prod_k p_k(x_0k)`` the score, and with it the denoiser, acts block by block.
    """

    def __init__(self, denoisers: Sequence[Denoiser], sizes: Sequence[int]) -> None:
        self.denoisers = tuple(denoisers)
        self.sizes = tuple(sizes)  # the number of sources of each denoiser

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Returns D for ``x: [batch, sources, time]`` and ``sigma: []`` or ``[batch]``."""
        blocks = zip(self.denoisers, x.split(self.sizes, dim=1), strict=True)
        return torch.cat([denoiser(block, sigma) for denoiser, block in blocks], dim=1)

    def posterior(
        self, x: Tensor, sigma: Tensor, covariance: Covariance
    ) -> Posterior | JacobianPosterior:
        """Returns ``p(x_0 | x)``, the means and variances of the blocks concatenated.

        Raises ``PairingError`` for "band" or "reported" unless all denoisers report variances, in
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
    """Identifies a transform by its type and its number of bins."""
    return type(block.transform), block.variance.shape[-1]


def join(priors: Sequence[Prior]) -> Prior:
    """Joins priors of single sources ``[1, time]`` into one of independent sources, in that order.

    With MSDM's sampler it is ISDM, the weakly supervised model of arXiv 2302.02257, which was
    trained on each source alone. A prior of several sources keeps them jointly distributed. Raises
    ``ValueError`` for a latent prior, and unless the priors have the same schedule and events that
    differ in the number of sources only.
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
