"""A likelihood g(y | x) holds the observation, the forward operator and the noise's law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from torch import Tensor

from mgdm_audio.measurement.operator import Operator
from mgdm_audio.ranges import Checked, Positive, positive
from mgdm_audio.tensors import inner


class Likelihood(Protocol):
    """A likelihood ``g(y | x)`` gives samplers a differentiable log density."""

    @property
    def operator(self) -> Operator:
        """The forward map A."""
        ...

    @property
    def y(self) -> Tensor:
        """The observation: ``[batch, *observation]``."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns ``log g(y | x)`` up to a constant for ``x: [batch, *event]``: ``[batch]``."""
        ...


@dataclass(frozen=True)
class GaussianLikelihood(Checked):
    """The Gaussian likelihood is ``y = A(x) + noise_std * eps`` with ``eps ~ N(0, I)``.

    An observation without noise (an exact mixture) needs a small ``noise_std`` too; the paper's is
    1e-4 for audio (arXiv 2502.03332). Raises ``ValueError`` unless ``noise_std > 0``.
    """

    operator: Operator  # the forward operator A
    y: Tensor  # the observation, [batch, *observation]
    noise_std: Annotated[float, positive(say="1e-4")]  # sigma_y, in the units of y

    def residual(self, x: Tensor) -> Tensor:
        """Returns ``y - A(x)``: ``[batch, *observation]``."""
        return self.y - self.operator(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns ``-|y - A(x)|^2 / (2 sigma_y^2)`` for each item: ``[batch]``."""
        r = self.residual(x)
        return -inner(r, r) / (2 * self.noise_std**2)


@dataclass(frozen=True)
class PoissonLikelihood(Checked):
    """The Poisson likelihood is ``rate * y ~ Poisson(rate * A(x))``, entry by entry.

    ``rate``: expected count for an intensity ``A(x)`` of 1; noise falls as it rises. An intensity
    must be positive, but a sampler's estimate may give another. Below ``floor`` the log density is
    extended by its tangent at ``floor`` if that rises, otherwise (y < floor) by a constant. It is
    then finite, bounded above and concave in ``A(x)``, and its gradient points towards positive
    intensities. Raises ``ValueError`` unless ``rate > 0``, ``floor > 0`` and ``y >= 0``.
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
        """Returns ``sum rate (y log A(x) - A(x))``, up to a constant in ``x``: ``[batch]``."""
        intensity = self.operator(x)
        inside = intensity.clamp_min(self.floor)
        slope = (self.y / self.floor - 1).clamp_min(0)
        outside = slope * (intensity - self.floor).clamp_max(0)
        log_prob = torch.xlogy(self.y, inside) - inside + outside
        return self.rate * log_prob.flatten(1).sum(1)
