"""The Gaussian prior, whose denoiser is known in closed form: what every sampler is checked on."""

from __future__ import annotations

import torch
from torch import Tensor


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
