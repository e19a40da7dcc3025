"""What a denoiser knows of x_0: a Gaussian approximation of p(x_0 | x_t), mean and covariance.

Guidance needs the covariance: of a mixture's residual y - sum_k mean_k, each source must take the
share that its own uncertainty v_k bears to the total, and a denoiser's mean alone does not tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from mgdm_audio.diffusion.denoiser import Denoiser

Covariance = Literal["isotropic", "band", "reported"]
"""Where v comes from: ``sigma^2 / (1 + sigma^2)`` for every sample; the training set's spectrum per
(source, bin), ``sigma^2 s^2 / (sigma^2 + s^2)``; or the network's own report per time and bin."""


class Transform(Protocol):
    """An isometry Phi of waveforms: ``synthesis`` is its adjoint and undoes it."""

    def analysis(self, x: Tensor) -> Tensor:
        """``[batch, sources, time] -> [batch, sources, frames, bins]``."""
        ...

    def synthesis(self, coefficients: Tensor, time: int) -> Tensor:
        """``[batch, sources, frames, bins] -> [batch, sources, time]``."""
        ...


class Identity:
    """No transform: a variance per sample."""

    def analysis(self, x: Tensor) -> Tensor:
        return x

    def synthesis(self, coefficients: Tensor, time: int) -> Tensor:
        return coefficients


@dataclass(frozen=True)
class Posterior:
    """``p(x_0 | x_t) ~ N(mean, Phi^T diag(variance) Phi)``.

    ``mean: [batch, sources, time]``; ``variance``: of the transform's coefficients, broadcastable.
    """

    mean: Tensor
    variance: Tensor
    transform: Transform


class MixtureNetwork(Protocol):
    """What :class:`MixtureDenoiser` asks of a network: see ``networks/tf_unet.py``."""

    def __call__(self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None) -> Tensor: ...
    def posterior(
        self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None
    ) -> tuple[Tensor, Tensor]: ...
    def band_variance(self, sigma: Tensor) -> Tensor: ...
    def analysis(self, x: Tensor) -> Tensor: ...
    def synthesis(self, coefficients: Tensor, time: int) -> Tensor: ...


class MixtureDenoiser:
    """A network that is a prior alone, and an amortised posterior when it is shown the mixture.

    ``D(x, sigma) = E[x_0 | x]``, the unconditional prior; ``.given(y)(x, sigma) = E[x_0 | x, y]``
    from the same weights, trained with the mixture hidden in a share of the examples.
    """

    def __init__(self, network: MixtureNetwork, mixture: Tensor | None = None) -> None:
        self.network, self.mixture = network, mixture

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.network(x, sigma, self.mixture)

    def given(self, mixture: Tensor) -> MixtureDenoiser:
        """The denoiser of ``p(x_0 | y)``; ``mixture: [batch, 1, time]``."""
        return MixtureDenoiser(self.network, mixture)

    def posterior(self, x: Tensor, sigma: Tensor, covariance: Covariance) -> Posterior:
        """Mean and variance of ``x_0`` given ``x: [batch, sources, time]`` (and the mixture)."""
        if covariance == "isotropic":
            return isotropic(self, x, sigma)
        mean, variance = self.network.posterior(x, sigma, self.mixture)
        if covariance == "band":
            variance = self.network.band_variance(sigma)
        return Posterior(mean, variance, self.network)


def isotropic(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> Posterior:
    """The posterior of any denoiser with ``v = sigma^2 / (1 + sigma^2)`` throughout.

    The covariance of a unit-variance Gaussian prior, the choice of PGDM (ICLR 2023, section 3.2).
    """
    level = sigma.to(x).reshape(-1, *[1] * (x.ndim - 1)) ** 2
    return Posterior(denoiser(x, sigma), level / (1 + level), Identity())
