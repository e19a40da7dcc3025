"""A Gaussian prior with the spectrogram of real stems, whose denoiser is exact."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.measurement import MixtureSum
from mgdm_audio.networks.mdct import MDCT

FLOOR = 1e-10  # variance: what rounding to 16 bits leaves, (2^-15)^2 / 12


class CircularMDCT:
    """The orthonormal MDCT of a signal that repeats: as many coefficients as samples.

    ``[..., time] <-> [..., time / N, N]`` for a time that N divides; frame i spans the samples
    i N to (i + 2) N, past the end those at the beginning. Analysis and synthesis are each other's
    inverse and adjoint.
    """

    def __init__(self, bins: int) -> None:
        self.mdct = MDCT(bins)

    def analysis(self, x: Tensor) -> Tensor:
        wrapped = torch.cat([x, x[..., : self.mdct.bins]], -1)
        return self.mdct(wrapped)[0][..., 1:-1, :]

    def synthesis(self, coefficients: Tensor, time: int | None = None) -> Tensor:
        wrapped = torch.cat([coefficients[..., -1:, :], coefficients], -2)
        return self.mdct.inverse(wrapped)

    # What a latent prior asks for, with the coefficients as latents.
    encode, decode = analysis, synthesis


class GaussianStems(CircularMDCT):
    """Independent coefficients c ~ N(0, variance): what a network is to ``MixtureDenoiser``.

    ``variance: [1, source, frame, bin]``. The mean and the variance that it reports are those of
    the posterior given x, and given x and a mixture without noise; its "bands" are the variances'
    mean over the frames.
    """

    def __init__(self, variance: Tensor) -> None:
        super().__init__(variance.shape[-1])
        self.variance = variance

    @classmethod
    def of(cls, stems: Tensor, bins: int) -> GaussianStems:
        """The variances of ``stems: [source, time]``: c^2, smoothed over 3 frames x 3 bins."""
        power = CircularMDCT(bins).analysis(stems).square()
        smooth = F.avg_pool2d(power, 3, stride=1, padding=1, count_include_pad=False)
        return cls(smooth.clamp_min(FLOOR)[None])

    def __call__(self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None) -> Tensor:
        return self.posterior(x, sigma, mixture)[0]

    def posterior(
        self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean ``[batch, source, time]``, variance of the coefficients ``[batch, source, ...]``."""
        mean = self.denoise(self.analysis(x), sigma)
        variance = _remaining(self.variance, _noise(sigma, x))
        if mixture is not None:
            gain = MixtureSum(self.variance.shape[1]).wiener_gain(variance, 0.0)
            mean = mean + gain * (self.analysis(mixture) - mean.sum(1, keepdim=True))
            variance = variance * (1 - gain)
        return self.synthesis(mean), variance

    def denoise(self, coefficients: Tensor, sigma: Tensor) -> Tensor:
        """E[c | c + sigma eps = coefficients]: ``[batch, source, frame, bin]``."""
        gain = self.variance / (self.variance + _noise(sigma, coefficients))
        return gain * coefficients

    def band_variance(self, sigma: Tensor) -> Tensor:
        """``[batch or 1, source, 1, bin]``, of c given c + sigma eps, were it stationary."""
        return _remaining(self.bands, _noise(sigma, self.variance))

    @property
    def bands(self) -> Tensor:
        """``[1, source, 1, bin]``: the variances' mean over the frames."""
        return self.variance.mean(2, keepdim=True)


def _noise(sigma: Tensor, like: Tensor) -> Tensor:
    return sigma.to(like).reshape(-1, 1, 1, 1) ** 2


def _remaining(variance: Tensor, noise: Tensor) -> Tensor:
    return variance * noise / (variance + noise)
