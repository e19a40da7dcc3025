"""The Gaussian prior, on which every sampler is tested: its denoiser has a closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mgdm_audio.diffusion.posterior import (
    Covariance,
    JacobianPosterior,
    Posterior,
    posterior_of,
)
from mgdm_audio.errors import PairingError


@dataclass(frozen=True)
class Eigenbasis:
    """A transform of the whole event, over all sources at once, to coefficients ``[batch, n]``."""

    basis: Tensor  # [n, n], eigenvectors in its columns
    event_shape: tuple[int, ...]

    def analysis(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.basis

    def synthesis(self, coefficients: Tensor, time: int) -> Tensor:
        return (coefficients @ self.basis.T).reshape(-1, *self.event_shape)


class GaussianDenoiser:
    """Denoises ``x_0 ~ N(0, C)`` exactly: ``D(x, sigma) = C (C + sigma^2 I)^-1 x``.

    ``covariance: [n, n]`` is C over the event's ``n`` entries in row-major order. It is decomposed
    once, so a call costs two products with an ``[n, n]`` matrix at any noise level.
    """

    def __init__(self, covariance: Tensor) -> None:
        self.covariance = covariance.to(torch.float64)
        variances, self.basis = torch.linalg.eigh(self.covariance)
        self.variances = variances.clamp(min=0.0)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Returns D for ``x: [batch, *event]`` and ``sigma: []`` or ``[batch]``, shaped as x."""
        basis, variances = self.basis.to(x), self.variances.to(x)
        noise = sigma.to(x).reshape(-1, 1) ** 2
        z = x.flatten(1) @ basis
        x_0: Tensor = (z * variances / (variances + noise)) @ basis.T
        return x_0.reshape(x.shape)

    def posterior(
        self, x: Tensor, sigma: Tensor, covariance: Covariance = "reported"
    ) -> Posterior | JacobianPosterior:
        """Returns ``p(x_0 | x)``, exact for the covariances "reported" and "jacobian".

        Raises ``PairingError`` for "band".
        """
        if covariance in ("isotropic", "jacobian"):
            return posterior_of(self, x, sigma, covariance)
        if covariance == "band":
            raise PairingError("GaussianDenoiser has no bands; use covariance=reported")
        variances, noise = self.variances.to(x), sigma.to(x).reshape(-1, 1) ** 2
        transform = Eigenbasis(self.basis.to(x), tuple(x.shape[1:]))
        mean = self(x, sigma)
        return Posterior(mean, variances * noise / (variances + noise), transform, separable=False)
