"""Likelihoods g(y | x): what was observed, through which operator, with what noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mgdm_audio.broadcast import inner
from mgdm_audio.measurement.operator import Operator


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
class GaussianLikelihood:
    """``y = A(x) + noise_std * N(0, I)``. Raises ``ValueError`` unless ``noise_std > 0``.

    An observation without noise (an exact mixture) is given a small ``noise_std`` all the same;
    the paper's is 1e-4 for audio.
    """

    operator: Operator
    y: Tensor
    noise_std: float  # sigma_y

    def __post_init__(self) -> None:
        if not 0 < self.noise_std < float("inf"):
            raise ValueError(f"noise_std = {self.noise_std}: give a positive number, say 1e-4")

    def residual(self, x: Tensor) -> Tensor:
        """``y - A(x)``: ``[batch, *observation]``."""
        return self.y - self.operator(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """``-|y - A(x)|^2 / (2 sigma_y^2)``: ``[batch]``, never summed over the batch."""
        r = self.residual(x)
        return -inner(r, r) / (2 * self.noise_std**2)
