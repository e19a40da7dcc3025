"""Which way of conditioning fits an operator and a covariance."""

from __future__ import annotations

from typing import Any

from mgdm_audio.conditioning.base import Conditional, Spread
from mgdm_audio.conditioning.iterative import IterativeConditional
from mgdm_audio.conditioning.mixture import KnownConditional, KnownMixture, MixtureConditional
from mgdm_audio.conditioning.samples import SamplesConditional
from mgdm_audio.diffusion.posterior import GaussianPosterior, Identity, Posterior
from mgdm_audio.measurement import MixtureSum


def condition(
    operator: Any, posterior: GaussianPosterior, noise_std: float, spread: Spread = None
) -> Conditional:
    """``x_0 ~ posterior`` given ``operator`` of it and noise of standard deviation ``noise_std``.

    Closed form for a mixture, known sources or both (``KnownMixture``), where C is diagonal in a
    transform that commutes with a sum. Known samples (``Mask``) commute with no transform of time:
    under a covariance of bands see ``samples``. Everything else takes conjugate gradients, which
    raise ``PairingError`` where a Jacobian is no covariance and ``UserError`` where they do not
    converge for another reason.
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
