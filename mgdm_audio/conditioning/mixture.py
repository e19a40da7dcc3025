"""Conditioning in closed form, where C and A A^T are diagonal in the same coefficients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mgdm_audio.conditioning.base import Spread, widened
from mgdm_audio.conditioning.known import KnownMixture
from mgdm_audio.diffusion.posterior import Posterior
from mgdm_audio.measurement import MixtureSum
from mgdm_audio.tensors import per_item


@dataclass(frozen=True)
class MixtureConditional:
    """Given a weighted sum of sources; the transform of C commutes with it."""

    operator: MixtureSum
    posterior: Posterior
    noise_std: float  # sigma_y
    spread: Spread = None

    def score(self, residual: Tensor) -> Tensor:
        transform = self.posterior.transform
        total = self.operator.mixed_variance(self.posterior.variance) + self._noise_variance()
        u = transform.analysis(residual) / total
        return self.operator.adjoint(transform.synthesis(u, residual.shape[-1]))

    def shift(self, residual: Tensor) -> Tensor:
        # One gain a source: dividing by small variances and multiplying by them again would leave
        # float32 rounding of the loud bins in the quiet ones.
        transform = self.posterior.transform
        gain = self.operator.wiener_gain(self.posterior.variance, self._noise_variance())
        return transform.synthesis(gain * transform.analysis(residual), residual.shape[-1])

    def _noise_variance(self) -> float | Tensor:
        """Of y about A x_0: sigma_y^2, and A spread C^2 A^T where there is a spread."""
        if self.spread is None:
            return self.noise_std**2
        variance = self.posterior.variance
        extra = self.operator.mixed_variance(per_item(self.spread, variance) * variance**2)
        return extra + self.noise_std**2


@dataclass(frozen=True)
class KnownConditional:
    """Given known sources, or known samples under a C that is diagonal in samples, and a sum."""

    parts: KnownMixture
    posterior: Posterior
    noise_std: float  # sigma_y
    spread: Spread = None

    def score(self, residual: Tensor) -> Tensor:
        found = self._coefficients(residual)
        return self.posterior.transform.synthesis(found, residual.shape[-1])

    def shift(self, residual: Tensor) -> Tensor:
        # Multiplied by the variance before the transform: see ``MixtureConditional``.
        found = self.posterior.variance * self._coefficients(residual)
        return self.posterior.transform.synthesis(found, residual.shape[-1])

    def _coefficients(self, residual: Tensor) -> Tensor:
        """The score as coefficients of the transform."""
        mixture, known = (
            None if y is None else self.posterior.transform.analysis(y)
            for y in self.parts.split(residual)
        )
        variance = widened(self.posterior.variance, self.spread)
        return self.parts.solve(mixture, known, variance, self.noise_std**2)[1]
