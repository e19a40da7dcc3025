"""Likelihoods g(y | x): what was observed, through which operator, with what noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from torch import Tensor

from mgdm_audio.measurement.operator import Operator
from mgdm_audio.ranges import Checked, Positive, positive
from mgdm_audio.tensors import inner


class Likelihood(Protocol):
    """``g(y | x)``, seen by a sampler as a differentiable log density."""

    @property
    def operator(self) -> Operator:
        """The forward map A."""
        ...

    @property
    def y(self) -> Tensor:
        """The observation: ``[batch, *observation]``."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """``log g(y | x)`` up to a constant, per batch item: ``[batch, *event] -> [batch]``."""
        ...


@dataclass(frozen=True)
class GaussianLikelihood(Checked):
    """``y = A(x) + noise_std * N(0, I)``. Raises ``ValueError`` unless ``noise_std > 0``.

    An observation without noise (an exact mixture) is given a small ``noise_std`` all the same;
    the paper's is 1e-4 for audio.
    """

    operator: Operator
    y: Tensor
    noise_std: Annotated[float, positive(say="1e-4")]  # sigma_y

    def residual(self, x: Tensor) -> Tensor:
        """``y - A(x)``: ``[batch, *observation]``."""
        return self.y - self.operator(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """``-|y - A(x)|^2 / (2 sigma_y^2)``: ``[batch]``, never summed over the batch."""
        r = self.residual(x)
        return -inner(r, r) / (2 * self.noise_std**2)


@dataclass(frozen=True)
class PoissonLikelihood(Checked):
    """``rate * y ~ Poisson(rate * A(x))``, entry by entry: counts, scaled back by ``rate``.

    ``rate``: counts for an intensity ``A(x)`` of 1; the more, the less noise. An intensity must be
    positive, which a sampler's estimates need not be. Below ``floor`` the log density goes on
    along its tangent at ``floor``, where that rises towards the domain, and is constant where it
    does not (where next to nothing was counted): finite, bounded above and concave in ``A(x)``,
    with a gradient that brings an estimate back. Raises ``ValueError`` unless ``rate > 0``,
    ``floor > 0`` and ``y >= 0``.
    """

    operator: Operator
    y: Tensor
    rate: Positive
    floor: Positive = 1e-3  # of A(x)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not bool((self.y >= 0).all()):
            raise ValueError(f"y has {float(self.y.min())}: counts are 0 or more")

    def log_prob(self, x: Tensor) -> Tensor:
        """``sum rate (y log A(x) - A(x))``: ``[batch]``, up to a constant in ``x``."""
        intensity = self.operator(x)
        inside = intensity.clamp_min(self.floor)
        slope = (self.y / self.floor - 1).clamp_min(0)
        outside = slope * (intensity - self.floor).clamp_max(0)
        log_prob = torch.xlogy(self.y, inside) - inside + outside
        return self.rate * log_prob.flatten(1).sum(1)
