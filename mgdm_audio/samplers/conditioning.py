"""Gaussian conditioning on y = A x_0 + sigma_y eps, where x_0 ~ N(mean, C): what samplers share.

C is the denoiser's covariance of x_0 given x_t. It gives the denoiser's slope as well, by Tweedie's
formula: dD/dx_t = (alpha_t / sigma_t^2) C.
"""

from __future__ import annotations

from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor

from mgdm_audio.broadcast import inner, per_item
from mgdm_audio.diffusion import Level, Prior
from mgdm_audio.diffusion.posterior import (
    KRYLOV_STEPS,
    Covariance,
    Identity,
    JacobianPosterior,
    Posterior,
    predict_posterior,
)
from mgdm_audio.errors import PairingError, UserError
from mgdm_audio.measurement import MixtureSum
from mgdm_audio.measurement.conjugate_gradient import conjugate_gradient
from mgdm_audio.measurement.known_mixture import KnownMixture
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.known_samples import explain_samples

Doubt = Posterior | JacobianPosterior


def explain(
    operator: Any,
    posterior: Doubt,
    residual: Tensor,
    noise_std: float,
    spread: float | Tensor | None = None,
) -> Tensor:
    """``A^T (A (C + spread C^2) A^T + sigma_y^2 I)^-1 residual``: ``[batch, *event]``.

    Without ``spread`` it is the gradient of log N(y; A mean, A C A^T + sigma_y^2 I) in the mean. A
    ``spread`` > 0, [] or [batch], adds the doubt about x_t itself: see ``condition_state``.
    Closed form for a mixture, known sources or both (``KnownMixture``), where C is diagonal in a
    transform that commutes with a sum; for known samples (``Mask``), which commute with no
    transform of time, under a covariance of bands see ``explain_samples``. Everything else takes
    conjugate gradients. ``PairingError`` where a Jacobian is no covariance, ``UserError`` where
    they do not converge for another reason.
    """
    if isinstance(operator, MixtureSum) and _separable(posterior):
        total = operator.mixed_variance(posterior.variance)
        total = total + _noise_variance(operator, posterior, noise_std, spread)
        u = posterior.transform.analysis(residual) / total
        return operator.adjoint(posterior.transform.synthesis(u, residual.shape[-1]))
    parts = KnownMixture.of(operator)
    if parts is not None and _separable(posterior) and _diagonal(parts, posterior):
        explained = _explained(parts, posterior, residual, noise_std, spread)
        return posterior.transform.synthesis(explained, residual.shape[-1])

    if parts is not None and _separable(posterior):
        variance = _spread_out(posterior.variance, spread)
        pulled = explain_samples(parts, posterior.transform, variance, residual, noise_std**2)[0]
        return posterior.transform.synthesis(pulled, residual.shape[-1])
    return operator.adjoint(_iterate(operator, posterior, residual, noise_std, spread))  # type: ignore[no-any-return]


def correction(
    operator: Any,
    posterior: Doubt,
    residual: Tensor,
    noise_std: float,
    spread: float | Tensor | None = None,
) -> Tensor:
    """``C explain(...)``: ``[batch, *event]``. Without ``spread``, E[x_0 | y] - mean.

    For known samples under a covariance of bands, what the iterations leave of the residual is
    explained as if every sample had its source's mean variance: the known samples and the sum are
    then met to sigma_y at any level. How far they reach into the time beside them is exact once the
    iterations converge. With ``spread`` they are all there is; ``condition_clean`` has none.
    """
    if isinstance(operator, MixtureSum) and _separable(posterior):
        # One gain a source: dividing by small variances and multiplying by them again would leave
        # float32 rounding of the loud bins in the quiet ones.
        noise = _noise_variance(operator, posterior, noise_std, spread)
        gain = operator.wiener_gain(posterior.variance, noise)
        shares = gain * posterior.transform.analysis(residual)
        return posterior.transform.synthesis(shares, residual.shape[-1])
    parts = KnownMixture.of(operator)
    if parts is not None and _separable(posterior) and _diagonal(parts, posterior):
        # As above: multiplied by the variance before the transform, not after it.
        explained = _explained(parts, posterior, residual, noise_std, spread)
        shares = posterior.variance * explained
        return posterior.transform.synthesis(shares, residual.shape[-1])
    if parts is not None and _separable(posterior):
        variance = _spread_out(posterior.variance, spread)
        pulled, left = explain_samples(parts, posterior.transform, variance, residual, noise_std**2)
        shares = posterior.variance * pulled
        found = posterior.transform.synthesis(shares, residual.shape[-1])
        if spread is None:
            variance = posterior.variance.flatten(2).mean(2, keepdim=True)
            nothing = None if parts.mixture is None else torch.zeros_like(residual[:, :1])
            found = found + variance * parts.solve(nothing, left, variance, noise_std**2)[1]
        return found
    u = _iterate(operator, posterior, residual, noise_std, spread)
    return posterior.covary(operator.adjoint(u))


def covariant_score(
    prior: Prior, likelihood: Any, x_t: Tensor, t: Level, covariance: Covariance
) -> Tensor:
    """``grad_{x_t} log N(y; A D(x_t), A C_t A^T + sigma_y^2 I)``, C_t held: ``[batch, *event]``."""
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        posterior = predict_posterior(prior, x_t, t, covariance)
    residual = likelihood.residual(posterior.mean.detach())
    pulled = explain(likelihood.operator, posterior, residual, likelihood.noise_std)
    return torch.autograd.grad(posterior.mean, x_t, pulled)[0]


def condition_state(
    prior: Prior,
    likelihood: Any,
    mean: Tensor,
    std: float | Tensor,
    t: Level,
    covariance: Covariance,
    *,
    generator: Generators,
) -> Tensor:
    """A draw of x_t from N(mean, std^2 I) times N(y; A D(x_t), A C_t A^T + sigma_y^2 I).

    Perturb and solve: a draw of (x_t, y) without y, at which D is linearised, then its correction
    by the y observed. One denoiser call; exact where D is linear.
    """
    x_t = mean + per_item(std, mean) * randn_like(mean, generator)
    posterior = predict_posterior(prior, x_t, t, covariance)
    drawn = posterior.mean + posterior.root(randn_like(mean, generator))
    slope = prior.schedule.alpha[t] / prior.schedule.sigma[t] ** 2
    variance = torch.as_tensor(std, dtype=torch.float64) ** 2
    # x_t's own variance reaches y through D: A (slope C) (variance I) (slope C) A^T.
    shift = correction(
        likelihood.operator,
        posterior,
        _innovation(likelihood, drawn, generator),
        likelihood.noise_std,
        spread=variance * slope**2,
    )
    return x_t + per_item(variance * slope, x_t) * shift


def condition_clean(
    prior: Prior,
    likelihood: Any,
    x_0: Tensor,
    x_t: Tensor,
    t: Level,
    covariance: Covariance | Literal["none"],
    *,
    generator: Generators,
) -> Tensor:
    """A draw of x_0 given (x_t, y) out of ``x_0``, a draw given x_t: perturb and solve.

    Without a covariance, the nearest point to ``x_0`` that explains y exactly.
    """
    if covariance == "none":
        return x_0 + likelihood.operator.pinv(likelihood.residual(x_0))  # type: ignore[no-any-return]
    posterior = predict_posterior(prior, x_t, t, covariance)
    innovation = _innovation(likelihood, x_0, generator)
    return x_0 + correction(likelihood.operator, posterior, innovation, likelihood.noise_std)


def _innovation(likelihood: Any, x_0: Tensor, generator: Generators) -> Tensor:
    """y less a draw of what ``x_0`` would have been observed as."""
    noise = likelihood.noise_std * randn_like(likelihood.y, generator)
    return likelihood.residual(x_0) - noise  # type: ignore[no-any-return]


def _separable(posterior: Doubt) -> TypeGuard[Posterior]:
    return posterior.separable


def _iterate(
    operator: Any,
    posterior: Doubt,
    residual: Tensor,
    noise_std: float,
    spread: float | Tensor | None,
) -> Tensor:
    """``(A (C + spread C^2) A^T + sigma_y^2 I)^-1 residual``."""

    def observed(u: Tensor) -> Tensor:
        x = posterior.covary(operator.adjoint(u))
        if spread is not None:
            x = x + per_item(spread, x) * posterior.covary(x)
        return operator(x) + noise_std**2 * u  # type: ignore[no-any-return]

    steps = KRYLOV_STEPS if isinstance(posterior, JacobianPosterior) else 1000
    solution = conjugate_gradient(observed, residual, max_iterations=steps)
    left = residual - observed(solution)
    missed = inner(left, left) > 0.01 * inner(residual, residual)
    if bool(missed.any()):
        if isinstance(posterior, JacobianPosterior):
            raise PairingError(
                "covariance='jacobian': the network's Jacobian is too far from symmetric to be a "
                "covariance; use covariance='band' or 'reported'"
            )
        raise UserError(
            f"{type(operator).__name__}: conditioning on it did not converge in {steps} steps of "
            f"conjugate gradients; give more noise than noise_std = {noise_std:g}"
        )
    return solution


def _diagonal(parts: KnownMixture, posterior: Posterior) -> bool:
    """Whether the transform commutes with what ``parts`` observe."""
    return parts.mixes_only or isinstance(posterior.transform, Identity)


def _explained(
    parts: KnownMixture,
    posterior: Posterior,
    residual: Tensor,
    noise_std: float,
    spread: float | Tensor | None,
) -> Tensor:
    """``explain`` in closed form, as coefficients of the posterior's transform."""
    mixture, known = (
        None if y is None else posterior.transform.analysis(y) for y in parts.split(residual)
    )
    variance = _spread_out(posterior.variance, spread)
    return parts.solve(mixture, known, variance, noise_std**2)[1]


def _spread_out(variance: Tensor, spread: float | Tensor | None) -> Tensor:
    """The diagonal of ``C + spread C^2``."""
    return variance if spread is None else variance + per_item(spread, variance) * variance**2


def _noise_variance(
    operator: MixtureSum, posterior: Posterior, noise_std: float, spread: float | Tensor | None
) -> float | Tensor:
    """Of y about A x_0: sigma_y^2, and A spread C^2 A^T where there is a spread."""
    if spread is None:
        return noise_std**2
    variance = posterior.variance
    return operator.mixed_variance(per_item(spread, variance) * variance**2) + noise_std**2
