"""Unadjusted Langevin on a likelihood times a Gaussian: the inner kernel of DAPS and PnP-DM.

    pi(x)  prop. to  g(y | x)^w N(x; centre, std^2 I)
    x <- x + h grad log pi(x) + sqrt(2 h) xi

No step is rejected, so the stationary law differs from pi. Where log pi is quadratic, a step is for
every curvature l, an eigenvalue of w A^T A / sigma_y^2 + I / std^2, the linear recursion

    mean' - mode = (1 - h l) (mean - mode)        var' = (1 - h l)^2 var + 2 h

which converges to the exact mode and to the variance (1 / l) / (1 - h l / 2) if h l < 2, and
diverges otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mgdm_audio.measurement import Likelihood
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.base import likelihood_gradient


def langevin(
    likelihood: Likelihood,
    centre: Tensor,
    std: float,
    *,
    step_size: float,
    num_steps: int,
    generator: Generators,
    weight: float = 1.0,
) -> Tensor:
    """Takes ``num_steps`` Langevin steps of size h from ``centre`` and returns ``[batch, *event]``.

    ``weight`` is w. An item that diverges becomes infinite or NaN without affecting the others.
    """
    x = centre.clone(memory_format=torch.contiguous_format)
    for _ in range(num_steps):
        score = likelihood_gradient(likelihood, x)
        x.lerp_(centre, step_size / std**2).add_(score, alpha=step_size * weight)
        x.add_(randn_like(x, generator), alpha=(2 * step_size) ** 0.5)
    return x
