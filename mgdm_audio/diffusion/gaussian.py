"""The Gaussian prior, whose denoiser is known in closed form: what every sampler is checked on."""

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
    """A transform of whole events, sources and all: coefficients are ``[batch, n]``."""

    basis: Tensor  # [n, n], eigenvectors in its columns
    event_shape: tuple[int, ...]

    def analysis(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.basis

    def synthesis(self, coefficients: Tensor, time: int) -> Tensor:
        return (coefficients @ self.basis.T).reshape(-1, *self.event_shape)


class GaussianDenoiser:
    """The exact denoiser of ``x_0 ~ N(0, C)``: ``D(x, sigma) = C (C + sigma^2 I)^-1 x``.

    ``covariance: [n, n]`` over the event's ``n`` entries in row-major order. The eigenvectors are
    kept, so a call costs two products with an ``[n, n]`` matrix at any noise level.
    """

    def __init__(self, covariance: Tensor) -> None:
        self.covariance = covariance.to(torch.float64)
        variances, self.basis = torch.linalg.eigh(self.covariance)
        self.variances = variances.clamp(min=0.0)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``x: [batch, *event]``, ``sigma: []`` or ``[batch]`` -> ``[batch, *event]``."""
        basis, variances = self.basis.to(x), self.variances.to(x)
        noise = sigma.to(x).reshape(-1, 1) ** 2
        z = x.flatten(1) @ basis
        x_0: Tensor = (z * variances / (variances + noise)) @ basis.T
        return x_0.reshape(x.shape)

    def posterior(
        self, x: Tensor, sigma: Tensor, covariance: Covariance = "reported"
    ) -> Posterior | JacobianPosterior:
        """``p(x_0 | x)``, exact where ``covariance`` is "reported" (or "jacobian")."""
        if covariance in ("isotropic", "jacobian"):
            return posterior_of(self, x, sigma, covariance)
        if covariance == "band":
            raise PairingError("GaussianDenoiser knows no bands; use covariance=reported")
        variances, noise = self.variances.to(x), sigma.to(x).reshape(-1, 1) ** 2
        transform = Eigenbasis(self.basis.to(x), tuple(x.shape[1:]))
        mean = self(x, sigma)
        return Posterior(mean, variances * noise / (variances + noise), transform, separable=False)
