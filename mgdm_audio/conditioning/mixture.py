"""Gaussian conditioning in closed form on a mixture, and on known sources, of independent sources.

    y = sum_k w_k x_k + sigma_y eps,    y_j = x_j + sigma_y eps_j for the known j

with x_k ~ N(mean_k, v_k) independent. The known sources are conditioned on first, one by one; the
rest of the mixture is then distributed in proportion to the residual variances (sequential Bayesian
updating, in any order, since the noises are independent). C is diagonal in coefficients whose
transform commutes with the operator.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mgdm_audio.conditioning.base import Spread, widened
from mgdm_audio.diffusion.posterior import Posterior
from mgdm_audio.measurement.masking import KnownSources, Mask
from mgdm_audio.measurement.mixture import MixtureSum
from mgdm_audio.measurement.operator import Operator
from mgdm_audio.measurement.stacked import Stacked
from mgdm_audio.tensors import per_item, send


@dataclass(frozen=True)
class KnownMixture:
    """Describes ``MixtureSum``, ``KnownSources``, ``Mask``, or a mixture stacked with an other.

    ``KnownSources`` observes whole sources, a ``Mask`` on ``[sources, time]`` single samples.
    """

    mixture: MixtureSum | None
    known: KnownSources | Mask | None
    mixture_first: bool = True  # in the stacked observation

    @classmethod
    def of(cls, operator: Operator) -> KnownMixture | None:
        """Returns the description of ``operator``, or None if it has other parts."""
        parts = operator.operators if isinstance(operator, Stacked) else (operator,)
        mixtures = [part for part in parts if isinstance(part, MixtureSum)]
        known = [part for part in parts if isinstance(part, KnownSources | Mask)]
        if len(mixtures) > 1 or len(known) > 1 or len(mixtures) + len(known) < len(parts):
            return None
        first = bool(mixtures) and parts[0] is mixtures[0]
        return cls(mixtures[0] if mixtures else None, known[0] if known else None, first)

    @property
    def mixes_only(self) -> bool:
        """Returns whether only sources are mixed: transforms of time commute with the operator."""
        return not isinstance(self.known, Mask)

    def split(self, y: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Splits an observation into mixture ``[batch, 1, time]`` and known ``[batch, K, time]``.

        Entries of the latter that are not observed are 0.
        """
        mixture = known = None
        if self.mixture is not None:
            mixture = y[:, :1] if self.mixture_first else y[:, -1:]
        if self.known is not None:
            known = y if mixture is None else y[:, 1:] if self.mixture_first else y[:, :-1]
            known = self.known.adjoint(known)
        return mixture, known

    def join(self, mixture: Tensor | None, known: Tensor | None) -> Tensor:
        """Inverts ``split`` and returns an observation."""
        parts = [] if mixture is None else [mixture]
        parts += [] if known is None or self.known is None else [self.known(known)]
        return torch.cat(parts if self.mixture_first else parts[::-1], 1)

    def solve(
        self,
        mixture: Tensor | None,
        known: Tensor | None,
        variance: Tensor,
        noise_variance: float,
    ) -> tuple[Tensor | None, Tensor]:
        """Returns the mixture's part of ``u = (A diag(v) A^T + sigma_y^2 I)^-1 y``, and ``A^T u``.

        y is given in its parts (``split``). ``variance: [batch, K or 1, *any]`` is that of the
        samples or, where ``mixes_only``, of any coefficients of time.
        """
        noise = noise_variance
        free = torch.zeros_like(variance)  # A^T u of the unknown entries
        u = None
        if self.mixture is not None and mixture is not None:
            w = _column(torch.tensor(self.mixture.weights), variance)
            left, total = mixture, w**2 * variance
            if known is not None:
                is_known = self._is_known(variance)
                fall = variance / (variance + noise)
                left = mixture - (w * fall * known).sum(1, keepdim=True)
                total = torch.where(is_known, fall * noise, variance) * w**2
            u = left / (total.sum(1, keepdim=True) + noise)
            free = w * u
        if known is None:
            return u, free
        at_known = (known + noise * free) / (variance + noise)
        return u, torch.where(self._is_known(variance), at_known, free)

    def mask_like(self, x: Tensor) -> Tensor:
        """Returns a boolean mask of the known entries, in the shape of ``x: [batch, K, time]``."""
        return self._is_known(x).expand(x.shape)

    def after_mixture(self, variance: Tensor, noise_variance: float) -> AfterMixture:
        """Returns the covariance of the sources given the mixture; ``variance`` as in ``solve``."""
        weights = (0.0,) if self.mixture is None else self.mixture.weights
        return AfterMixture(variance, _column(torch.tensor(weights), variance), noise_variance)

    def _is_known(self, like: Tensor) -> Tensor:
        """Returns the mask of known entries, broadcastable over ``like: [batch, K, *any]``."""
        if isinstance(self.known, Mask):
            return self.known.mask.to(like.device)
        assert self.known is not None
        flags = [k in self.known.indices for k in range(self.known.num_sources)]
        return _column(torch.tensor(flags), like, torch.bool)


@dataclass(frozen=True)
class AfterMixture:
    """The covariance of independent sources given their mixture is, for every coefficient,

        C' = V - V w T^-1 w^T V,    T = w^T V w + sigma_y^2,

    a diagonal matrix minus a matrix of rank one. All tensors are ``[batch, K or 1, *any]``.
    """

    variance: Tensor  # V
    weights: Tensor  # w, [K or 1, 1, ...]
    noise: float  # sigma_y^2

    def mix(self, x: Tensor) -> Tensor:
        """Returns ``w^T x``: ``[batch, 1, *any]``."""
        return (self.weights * x).sum(1, keepdim=True)

    def score(self, mixture: Tensor) -> Tensor:
        """Returns ``w T^-1 mixture``; V times it is the sources' mean given the mixture."""
        total = self.mix(self.weights * self.variance) + self.noise
        return self.weights * (mixture / total)

    def covariance_product(self, x: Tensor) -> Tensor:
        """Returns ``C' x``."""
        x = self.variance * x
        return x - self.variance * self.score(self.mix(x))

    def solve(self, x: Tensor) -> Tensor:
        """Returns ``(C' + sigma_y^2 I)^-1 x``, by Sherman and Morrison's formula."""
        fall = self.variance / (self.variance + self.noise)
        # T - w^T V (V + sigma_y^2)^-1 V w, without subtracting large numbers.
        rest = self.noise * (1 + self.mix(self.weights * fall))
        own = x / (self.variance + self.noise)
        return own + fall * self.weights * (self.mix(fall * x) / rest)


def _column(values: Tensor, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Reshapes ``values: [K]`` so that they multiply ``like: [batch, K, *any]``."""
    values = send(values.to(dtype or like.dtype), like.device)
    return values.reshape(-1, *[1] * (like.ndim - 2))


@dataclass(frozen=True)
class MixtureConditional:
    """Conditions on a weighted sum of sources, with which the transform of C commutes."""

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
        # One gain per source. To divide by the total and multiply by the variance after another
        # transform would spread float32 rounding errors of loud bins to quiet ones.
        transform = self.posterior.transform
        gain = self.operator.wiener_gain(self.posterior.variance, self._noise_variance())
        return transform.synthesis(gain * transform.analysis(residual), residual.shape[-1])

    def _noise_variance(self) -> float | Tensor:
        """Returns sigma_y^2, plus A spread C^2 A^T where there is a spread."""
        if self.spread is None:
            return self.noise_std**2
        variance = self.posterior.variance
        extra = self.operator.mixed_variance(per_item(self.spread, variance) * variance**2)
        return extra + self.noise_std**2


@dataclass(frozen=True)
class KnownConditional:
    """Conditions on known sources, or known samples if C is diagonal in samples, and a mixture."""

    parts: KnownMixture
    posterior: Posterior
    noise_std: float  # sigma_y
    spread: Spread = None

    def score(self, residual: Tensor) -> Tensor:
        found = self._coefficients(residual)
        return self.posterior.transform.synthesis(found, residual.shape[-1])

    def shift(self, residual: Tensor) -> Tensor:
        # The variance multiplies before the transform: see ``MixtureConditional``.
        found = self.posterior.variance * self._coefficients(residual)
        return self.posterior.transform.synthesis(found, residual.shape[-1])

    def _coefficients(self, residual: Tensor) -> Tensor:
        """Returns the coefficients of the score."""
        mixture, known = (
            None if y is None else self.posterior.transform.analysis(y)
            for y in self.parts.split(residual)
        )
        variance = widened(self.posterior.variance, self.spread)
        return self.parts.solve(mixture, known, variance, self.noise_std**2)[1]
