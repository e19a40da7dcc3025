"""DiffPIR: Denoising Diffusion Models for Plug-and-Play Image Restoration (arXiv 2305.08995).

Algorithm 1: half-quadratic splitting along the levels. The denoiser answers for the prior, a
proximal step for the data, and the estimate is noised to the next level:

    x_c = argmin_x |y - A x|^2 + rho_t |x - D(x_t)|^2,       rho_t = lambda sigma_y^2 / noise_t^2
    eps = (x_t - alpha_t x_c) / sigma_t
    x_s = alpha_s x_c + sigma_s (sqrt(1 - zeta) eps + sqrt(zeta) xi)

with noise_t = sigma_t / alpha_t. The published code ends on the noisy x_s of the last level; as in
the paper we return x_c, which the last step (to level 0) is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from torch import Tensor

from mgdm_audio.diffusion import Prior
from mgdm_audio.measurement import GaussianLikelihood, LinearOperator
from mgdm_audio.ranges import Share, at_least, positive
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise


@dataclass(frozen=True)
class DiffPIR(Stepwise):
    """Plug-and-play restoration; needs a LinearOperator."""

    num_steps: Annotated[int, at_least(2)] = 1000  # T, points of the grid
    strength: Annotated[float, positive(say="1")] = 1.0  # lambda, of the prior against the data
    zeta: Share = 1.0  # zeta, share of fresh noise

    needs = Needs(operator=LinearOperator, gaussian=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Algorithm 1: ``x_0: [batch, *event]``, in ``num_steps - 1`` denoiser calls."""
        operator: LinearOperator = likelihood.operator  # type: ignore[assignment]
        schedule = prior.schedule
        grid = schedule.timesteps(self.num_steps)[::-1]
        x = x_T
        for index, (t, s) in enumerate(pairwise(grid)):
            x_0 = prior.predict_x0(x, t)  # line 3
            noise = float(schedule.noise_level[t])
            rho = self.strength * (likelihood.noise_std / noise) ** 2
            x_0 = x_0 + operator.damped_pinv(likelihood.residual(x_0), rho)  # line 4
            eps = (x - float(schedule.alpha[t]) * x_0) / float(schedule.sigma[t])  # line 5
            eps = (1 - self.zeta) ** 0.5 * eps + self.zeta**0.5 * randn_like(x, generator)
            x = float(schedule.alpha[s]) * x_0 + float(schedule.sigma[s]) * eps  # lines 6, 7
            yield Step(index, len(grid) - 1, s, x, x_0)
        return x
