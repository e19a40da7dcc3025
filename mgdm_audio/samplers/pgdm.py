"""PGDM: Pseudoinverse-Guided Diffusion Models for Inverse Problems (Song et al., ICLR 2023).

With p(x_0 | x_t) approximated by N(D(x_t), r_t^2 I), the observation given x_t is Gaussian and its
score is a vector-Jacobian product:

    g = r_t^2 grad_{x_t} log N(y; A D(x_t), r_t^2 A A^T + sigma_y^2 I)
      = (dD/dx_t)^T A^T (A A^T + (sigma_y / r_t)^2 I)^-1 (y - A D(x_t))

    x_s = DDIM(x_t) + sqrt(alphabar_t alphabar_s) g

r_t^2 = sigma_t^2 = 1 - alphabar_t is the posterior variance of a unit Gaussian prior, for which the
score is exact. The factor r_t^2 in g is the paper's; with the weight of g above, a step in
z = x / alpha moves the estimate by r_t^2 grad_z log N at any scale of the process. The step to
level 0 is guided as well, which makes 999 gradients at N = 1000; the MGDM paper's code takes 998
and returns D.

For an idempotent A, A(A(x)) = A(x), such as JPEG, the paper uses A as its own pseudo-inverse,
without the noise of y:

    g = (dD/dx_t)^T (y - A D(x_t)),        x_s = DDIM(x_t) + sqrt(alphabar_t) g
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior, sample_bridge
from mgdm_audio.measurement import GaussianLikelihood, Idempotent, LinearOperator
from mgdm_audio.ranges import Share, at_least
from mgdm_audio.rng import Generators
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise


@dataclass(frozen=True)
class PGDM(Stepwise):
    """Samples by pseudo-inverse guidance; needs a LinearOperator or an Idempotent operator."""

    num_steps: Annotated[int, at_least(2)] = 1000  # N, points of the grid
    eta: Share = 1.0  # DDIM's stochasticity

    needs = Needs(operator=(LinearOperator, Idempotent), gaussian=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` by Algorithm 1, in ``num_steps - 1`` gradient calls."""
        grid, schedule = prior.schedule.timesteps(self.num_steps)[::-1], prior.schedule
        x = x_T
        for index, (t, s) in enumerate(pairwise(grid)):
            x_0, step = _guidance(prior, likelihood, x, t, s)
            x = sample_bridge(schedule, x_0, x, 0, s, t, eta=self.eta, generator=generator)
            x = x + step
            yield Step(index, len(grid) - 1, s, x, x_0)
        return x


def _guidance(
    prior: Prior, likelihood: GaussianLikelihood, x_t: Tensor, t: int, s: int
) -> tuple[Tensor, Tensor]:
    """Returns ``D(x_t)`` and the weighted ``g``, both ``[batch, *event]``."""
    operator, alpha = likelihood.operator, prior.schedule.alpha
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        x_0 = prior.predict_x0(x_t, t)
    guidance, weight = likelihood.residual(x_0.detach()), float(alpha[t])
    if isinstance(operator, LinearOperator):
        rho = (likelihood.noise_std / float(prior.schedule.sigma[t])) ** 2  # (sigma_y / r_t)^2
        guidance, weight = operator.damped_pinv(guidance, rho), float(alpha[t] * alpha[s])
    return x_0.detach(), weight * torch.autograd.grad(x_0, x_t, guidance)[0]
