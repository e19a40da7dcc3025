"""Gaussian conditioning on known samples, of sources whose covariance is diagonal in bands.

    y = sum_k w_k x_k + sigma_y eps,    y_kn = x_kn + sigma_y eps_kn for the known (k, n)

where x has the covariance C = Phi^T V Phi with a V that is diagonal. The mixture commutes with Phi
and is conditioned on in closed form; the residual covariance is C' = Phi^T V' Phi
(``AfterMixture``). Known samples commute with no transform of time: M C' M^T + sigma_y^2 I, M the
mask, is solved by conjugate gradients. Their preconditioner is
M Phi^T (V' + sigma_y^2 I)^-1 Phi M^T, the inverse for sources that are known throughout, which is
wrong at the ends of what is known only (as a circulant matrix is for a Toeplitz one, Chan 1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mgdm_audio.conditioning.base import Spread, widened
from mgdm_audio.conditioning.mixture import AfterMixture, KnownMixture
from mgdm_audio.diffusion.posterior import Posterior, Transform
from mgdm_audio.krylov import conjugate_gradient

MAX_STEPS = 40  # of conjugate gradients
TOLERANCE = 1e-3  # of their residual, where they stop earlier


@dataclass(frozen=True)
class SamplesConditional:
    """Given known samples, and a sum of sources if there is one."""

    parts: KnownMixture
    posterior: Posterior
    noise_std: float  # sigma_y
    spread: Spread = None

    def score(self, residual: Tensor) -> Tensor:
        found, _ = self._solve(residual)
        return self.posterior.transform.synthesis(found, residual.shape[-1])

    def shift(self, residual: Tensor) -> Tensor:
        """``C score(residual)``, and what the iterations leave of the residual.

        That is conditioned on as if every sample had its source's mean variance: the known samples
        and the sum are then met to sigma_y at any level. How far they reach into the time beside
        them is exact once the iterations converge. With a spread they are all there is;
        ``guidance.condition_clean`` has none.
        """
        found, rest = self._solve(residual)
        variance, parts = self.posterior.variance, self.parts
        shift = self.posterior.transform.synthesis(variance * found, residual.shape[-1])
        if self.spread is not None:
            return shift
        mean = variance.flatten(2).mean(2, keepdim=True)
        nothing = None if parts.mixture is None else torch.zeros_like(residual[:, :1])
        return shift + mean * parts.solve(nothing, rest, mean, self.noise_std**2)[1]

    def _solve(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        variance = widened(self.posterior.variance, self.spread)
        transform = self.posterior.transform
        return score_coefficients(self.parts, transform, variance, residual, self.noise_std**2)


def score_coefficients(
    parts: KnownMixture,
    transform: Transform,
    variance: Tensor,
    residual: Tensor,
    noise_variance: float,
) -> tuple[Tensor, Tensor]:
    """``A^T (A C A^T + sigma_y^2 I)^-1 residual`` in coefficients, and what is left of the known.

    ``variance``: of the transform's coefficients, ``[batch or 1, K, frames or 1, bins]``;
    ``residual`` as ``parts`` observe it -> ``[batch, K, frames, bins]``, ``[batch, K, time]``.
    """
    time = residual.shape[-1]
    mixture, known = parts.split(residual)
    assert known is not None
    mask = parts.mask_like(known)
    whole = parts.after_mixture(variance, noise_variance)
    score = transform.analysis(torch.zeros_like(known))
    if mixture is not None:
        score = whole.score(transform.analysis(mixture)) + score
        known = known - mask * transform.synthesis(variance * score, time)
    left = known.clone()
    for first, start, stop in _spans(mask, getattr(transform, "hop", None)):
        times = slice(start, stop)
        frames = slice(first, first + transform.analysis(known[:1, :1, times]).shape[2])
        inner = variance if variance.shape[2] == 1 else variance[:, :, frames]
        after = parts.after_mixture(inner, noise_variance)
        span = _Span(after, transform, mask[..., times], noise_variance)
        u = conjugate_gradient(
            span.observed,
            known[..., times],
            max_iterations=MAX_STEPS,
            tolerance=TOLERANCE,
            precondition=span.approximate_inverse,
        )
        at_known = transform.analysis(u)
        score[:, :, frames] += at_known - after.score(after.mix(inner * at_known))
        left[..., times] -= span.observed(u)
    return score, left


@dataclass(frozen=True)
class _Span:
    """The known samples of one stretch of time, given the mixture."""

    after: AfterMixture
    transform: Transform
    mask: Tensor  # M, [batch, K, time of the stretch]
    noise_variance: float

    def observed(self, u: Tensor) -> Tensor:
        """``(M C' M^T + sigma_y^2 I) u``."""
        seen = self._masked(self.after.covariance_product(self.transform.analysis(u)))
        return seen + self.noise_variance * u

    def approximate_inverse(self, u: Tensor) -> Tensor:
        """``M Phi^T (V' + sigma_y^2 I)^-1 Phi M^T u``."""
        return self._masked(self.after.solve(self.transform.analysis(u)))

    def _masked(self, coefficients: Tensor) -> Tensor:
        return self.mask * self.transform.synthesis(coefficients, self.mask.shape[-1])


def _spans(mask: Tensor, hop: int | None) -> list[tuple[int, int, int]]:
    """First frame, first sample and end of stretches of time that no frame connects.

    A frame spans two hops. The ends lie on frames' edges, so that a stretch alone has the same
    coefficients as within the whole. Without a ``hop`` all of the time is one stretch.
    """
    time = mask.shape[-1]
    if hop is None:
        return [(0, 0, time)]
    blocks = mask.flatten(0, -2).any(0).nonzero().flatten().div(hop, rounding_mode="floor")
    spans: list[list[int]] = []
    for block in blocks.unique().tolist():
        if spans and block < spans[-1][1] + 2:
            spans[-1][1] = block + 1
        else:
            spans.append([block, block + 1])
    return [(a, a * hop, min(b * hop, time)) for a, b in spans]
