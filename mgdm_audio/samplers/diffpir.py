"""DiffPIR: Denoising Diffusion Models for Plug-and-Play Image Restoration (arXiv 2305.08995).

Algorithm 1 is half-quadratic splitting along the levels: a denoiser step for the prior, a proximal
step for the data, and forward noising of the estimate to the next level,

    x_c = argmin_x |y - A x|^2 + rho_t |x - D(x_t)|^2,       rho_t = lambda sigma_y^2 / noise_t^2
    eps = (x_t - alpha_t x_c) / sigma_t
    x_s = alpha_s x_c + sigma_s (sqrt(1 - zeta) eps + sqrt(zeta) xi)

with noise_t = sigma_t / alpha_t. The published code returns the noisy x_s of the last level; here
the last step goes to level 0 and returns x_c, as in the paper.
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
    """Restores by plug-and-play diffusion; needs a LinearOperator."""

    num_steps: Annotated[int, at_least(2)] = 1000  # T, points of the grid
    strength: Annotated[float, positive(say="1")] = 1.0  # lambda, of the prior against the data
    zeta: Share = 1.0  # zeta, the share of new noise

    needs = Needs(operator=LinearOperator, gaussian=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` by Algorithm 1, in ``num_steps - 1`` denoiser calls."""
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
