"""Scores and draws of diffusion states given y, under the denoiser's covariance C of x_0.

By Tweedie's formula the denoiser's Jacobian follows from C: dD/dx_t = (alpha_t / sigma_t^2) C.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mgdm_audio.conditioning.base import Conditional, Spread
from mgdm_audio.conditioning.iterative import IterativeConditional
from mgdm_audio.conditioning.mixture import KnownConditional, KnownMixture, MixtureConditional
from mgdm_audio.conditioning.samples import SamplesConditional
from mgdm_audio.diffusion import Level, Prior
from mgdm_audio.diffusion.posterior import (
    Covariance,
    GaussianPosterior,
    Identity,
    Posterior,
    predict_posterior,
)
from mgdm_audio.measurement import MixtureSum
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.tensors import per_item


def covariant_score(
    prior: Prior, likelihood: Any, x_t: Tensor, t: Level, covariance: Covariance
) -> Tensor:
    """Returns ``grad_{x_t} log N(y; A D(x_t), A C_t A^T + sigma_y^2 I)``: ``[batch, *event]``.

    C_t is treated as a constant.
    """
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        posterior = predict_posterior(prior, x_t, t, covariance)
    residual = likelihood.residual(posterior.mean.detach())
    score = condition(likelihood.operator, posterior, likelihood.noise_std).score(residual)
    return torch.autograd.grad(posterior.mean, x_t, score)[0]


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
    """Draws x_t from N(mean, std^2 I) times N(y; A D(x_t), A C_t A^T + sigma_y^2 I).

    Perturb and solve: x_t and y are drawn from their joint law, with D linearised at that x_t, and
    x_t is then shifted by the difference to the observed y. One denoiser call; exact for linear D.
    """
    x_t = mean + per_item(std, mean) * randn_like(mean, generator)
    posterior = predict_posterior(prior, x_t, t, covariance)
    drawn = posterior.mean + posterior.root(randn_like(mean, generator))
    slope = prior.schedule.alpha[t] / prior.schedule.sigma[t] ** 2
    variance = torch.as_tensor(std, dtype=torch.float64) ** 2
    # The variance of x_t adds to that of y, through D: A (slope C) (variance I) (slope C) A^T.
    given = condition(
        likelihood.operator, posterior, likelihood.noise_std, spread=variance * slope**2
    )
    shift = given.shift(_innovation(likelihood, drawn, generator))
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
    """Turns ``x_0``, a draw given x_t, into a draw given (x_t, y) by perturb and solve.

    For the covariance "none" it returns the point with A x = y that is nearest to ``x_0``.
    """
    if covariance == "none":
        return x_0 + likelihood.operator.pinv(likelihood.residual(x_0))  # type: ignore[no-any-return]
    posterior = predict_posterior(prior, x_t, t, covariance)
    given = condition(likelihood.operator, posterior, likelihood.noise_std)
    return x_0 + given.shift(_innovation(likelihood, x_0, generator))


def draw_deviation(
    likelihood: Any, posterior: GaussianPosterior, given: Conditional, generator: Generators
) -> Tensor:
    """Draws x_0 given (x_t, y) minus its mean, by perturb and solve.

    ``posterior``: x_0 given x_t; ``given``: its conditional for ``likelihood.operator``.
    """
    drawn = posterior.root(randn_like(posterior.mean, generator))
    noise = likelihood.noise_std * randn_like(likelihood.y, generator)
    return drawn - given.shift(likelihood.operator(drawn) + noise)


def _innovation(likelihood: Any, x_0: Tensor, generator: Generators) -> Tensor:
    """Returns y minus a simulated observation of ``x_0``."""
    noise = likelihood.noise_std * randn_like(likelihood.y, generator)
    return likelihood.residual(x_0) - noise  # type: ignore[no-any-return]


def condition(
    operator: Any, posterior: GaussianPosterior, noise_std: float, spread: Spread = None
) -> Conditional:
    """Returns the method that conditions ``x_0 ~ posterior`` on an observation by ``operator``.

    ``noise_std``: sigma_y. Closed form for a mixture, known sources or both (``KnownMixture``) if
    C is diagonal in a transform that commutes with a sum. Known samples (``Mask``) do not commute
    with a transform of time; for a covariance of bands see ``samples``. All other cases use
    conjugate gradients, which raise ``PairingError`` where a Jacobian is not a covariance and
    ``UserError`` where they do not converge for another reason.
    """
    if not (isinstance(posterior, Posterior) and posterior.separable):
        return IterativeConditional(operator, posterior, noise_std, spread)
    if isinstance(operator, MixtureSum):
        return MixtureConditional(operator, posterior, noise_std, spread)
    parts = KnownMixture.of(operator)
    if parts is None:
        return IterativeConditional(operator, posterior, noise_std, spread)
    if parts.mixes_only or isinstance(posterior.transform, Identity):
        return KnownConditional(parts, posterior, noise_std, spread)
    return SamplesConditional(parts, posterior, noise_std, spread)
