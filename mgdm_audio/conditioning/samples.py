"""Gaussian conditioning on known samples of sources whose covariance is diagonal in bands.

    y = sum_k w_k x_k + sigma_y eps,    y_kn = x_kn + sigma_y eps_kn for the known (k, n)

where x has the covariance C = Phi^T V Phi with a diagonal V. The mixture commutes with Phi and is
conditioned on in closed form; the residual covariance is C' = Phi^T V' Phi (``AfterMixture``). The
mask M of known samples does not commute with Phi, so M C' M^T + sigma_y^2 I is solved by conjugate
gradients. Their preconditioner M Phi^T (V' + sigma_y^2 I)^-1 Phi M^T is the inverse for sources
that are known at all times; it is inexact only near the ends of the known samples (as a circulant
preconditioner of a Toeplitz matrix, Chan 1988).
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
TOLERANCE = 1e-3  # they stop earlier at this relative residual


@dataclass(frozen=True)
class SamplesConditional:
    """Conditions on known samples and, if it is observed, a mixture of the sources."""

    parts: KnownMixture
    posterior: Posterior
    noise_std: float  # sigma_y
    spread: Spread = None

    def score(self, residual: Tensor) -> Tensor:
        found, _ = self._solve(residual)
        return self.posterior.transform.synthesis(found, residual.shape[-1])

    def shift(self, residual: Tensor) -> Tensor:
        """Returns ``C score(residual)``, corrected for the error of the conjugate gradients.

        The correction conditions on their remaining residual as if every sample had its source's
        mean variance, so that known samples and mixture fit to sigma_y at any level. The shift at
        other times is exact once the iterations converge. With a spread there is no correction;
        ``guidance.condition_clean`` has no spread.
        """
        found, error = self._solve(residual)
        variance, parts = self.posterior.variance, self.parts
        shift = self.posterior.transform.synthesis(variance * found, residual.shape[-1])
        if self.spread is not None:
            return shift
        mean = variance.flatten(2).mean(2, keepdim=True)
        zero = None if parts.mixture is None else torch.zeros_like(residual[:, :1])
        return shift + mean * parts.solve(zero, error, mean, self.noise_std**2)[1]

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
    """Returns the coefficients of ``A^T (A C A^T + sigma_y^2 I)^-1 residual`` and the CG residual.

    ``variance``: of the transform's coefficients, ``[batch or 1, K, frames or 1, bins]``;
    ``residual``: an observation of ``parts`` -> ``[batch, K, frames, bins]``, ``[batch, K, time]``.
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
    """The linear system of the known samples in one span of time, given the mixture."""

    after: AfterMixture
    transform: Transform
    mask: Tensor  # M, [batch, K, time of the span]
    noise_variance: float

    def observed(self, u: Tensor) -> Tensor:
        """Returns ``(M C' M^T + sigma_y^2 I) u``."""
        product = self._masked(self.after.covariance_product(self.transform.analysis(u)))
        return product + self.noise_variance * u

    def approximate_inverse(self, u: Tensor) -> Tensor:
        """Returns ``M Phi^T (V' + sigma_y^2 I)^-1 Phi M^T u``."""
        return self._masked(self.after.solve(self.transform.analysis(u)))

    def _masked(self, coefficients: Tensor) -> Tensor:
        return self.mask * self.transform.synthesis(coefficients, self.mask.shape[-1])


def _spans(mask: Tensor, hop: int | None) -> list[tuple[int, int, int]]:
    """Returns first frame, first sample and end of spans of time that no frame connects.

    A frame covers two hops. The ends lie on frame boundaries, so that a span analysed alone has
    the same coefficients as in the whole. Without a ``hop`` there is one span of all samples.
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
