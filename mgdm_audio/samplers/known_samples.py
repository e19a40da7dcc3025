"""Gaussian conditioning on known samples, of sources whose covariance is diagonal in bands.

    y = sum_k w_k x_k + sigma_y eps,    y_kn = x_kn + sigma_y eps_kn for the known (k, n)

where x has the covariance C = Phi^T V Phi with a V that is diagonal. The mixture commutes with Phi
and is conditioned on in closed form; what it leaves is C' = Phi^T V' Phi (``AfterMixture``). Known
samples commute with no transform of time: M C' M^T + sigma_y^2 I, M the mask, is solved by
conjugate gradients. Their preconditioner is M Phi^T (V' + sigma_y^2 I)^-1 Phi M^T, the inverse for
sources that are known throughout, which is wrong at the ends of what is known only (as a circulant
matrix is for a Toeplitz one, Chan 1988).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mgdm_audio.diffusion.posterior import Transform
from mgdm_audio.measurement.conjugate_gradient import conjugate_gradient
from mgdm_audio.measurement.known_mixture import KnownMixture

MAX_STEPS = 40  # of conjugate gradients
TOLERANCE = 1e-3  # of their residual, where they stop earlier


def explain_samples(
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
    pulled = transform.analysis(torch.zeros_like(known))
    if mixture is not None:
        pulled = whole.pull(transform.analysis(mixture)) + pulled
        known = known - mask * transform.synthesis(variance * pulled, time)
    left = known.clone()
    for first, start, stop in _spans(mask, getattr(transform, "hop", None)):
        times = slice(start, stop)
        near = mask[..., times]
        frames = slice(first, first + transform.analysis(known[:1, :1, times]).shape[2])
        inner = variance if variance.shape[2] == 1 else variance[:, :, frames]
        after = parts.after_mixture(inner, noise_variance)

        def seen(x: Tensor, near: Tensor = near) -> Tensor:
            return near * transform.synthesis(x, near.shape[-1])

        def observed(u: Tensor, after=after, seen=seen) -> Tensor:  # type: ignore[no-untyped-def]
            return seen(after.covary(transform.analysis(u))) + noise_variance * u

        def nearby(u: Tensor, after=after, seen=seen) -> Tensor:  # type: ignore[no-untyped-def]
            return seen(after.solve(transform.analysis(u)))

        u = conjugate_gradient(
            observed,
            known[..., times],
            max_iterations=MAX_STEPS,
            tolerance=TOLERANCE,
            precondition=nearby,
        )
        told = transform.analysis(u)
        pulled[:, :, frames] += told - after.pull(after.mix(inner * told))
        left[..., times] -= observed(u)
    return pulled, left


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
