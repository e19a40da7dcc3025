"""RED-diff: a variational perspective on inverse problems (arXiv 2305.04391), Algorithm 1.

A point estimate mu is fitted by one step of Adam at each level from the noisiest down:

    x_t  = alpha_t mu + sigma_t eps
    loss = |y - A(mu)|^2 / 2 + lambda_t < stop_gradient[eps_t(x_t) - eps], mu >
    lambda_t = lambda sigma_t / alpha_t                        inverse signal-to-noise ratio

The gradient needs only a forward call of the network. alpha_t and sigma_t are those of the prior's
own levels. The code of the MGDM paper's baseline (arXiv 2502.03332) takes them from DDPM's linear
schedule (arXiv 2006.11239) at the index t + 1 for every prior, and calls the network at its index
t: ``levels = "ddpm"``. On the audio grid the noise of the network's input is then not that of its
level, and the estimate is poor.

The fixed point of mu: for x_0 ~ N(0, C) the mean over eps of the second gradient is lambda s^2
(C + s^2 I)^-1 mu, s = sigma_t / alpha_t. The sum of both gradients is 0 at the MAP estimate under
the prior N(0, (C + s^2 I) / (lambda s^2)) and noise of variance 1. One level with lambda =
sigma_y^2 / s^2 thus gives the MAP estimate under the prior N(0, C + s^2 I) with the noise sigma_y.
Along a whole grid lambda_t falls to 0, so regularisation is strong first and vanishes at the end.

The paper starts at A^+ y, where small singular values (of a smooth blur) amplify the noise. Here mu
starts at A^T (A A^T + sigma_y^2 I)^-1 y, the MAP estimate under N(0, I), which is nearly the same
where A A^T is far above the noise, as for a sum of sources.

As in the paper, sums are over an item's entries. The published code takes means, over K T entries
in the second term and over the observation's T in the first: its lambda = .25 is .25 / K here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from mgdm_audio.diffusion import NoiseSchedule, Prior
from mgdm_audio.measurement import GaussianLikelihood, LinearOperator
from mgdm_audio.ranges import Positive, at_least, not_negative, within
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.adam import Adam
from mgdm_audio.samplers.base import (
    Needs,
    Run,
    Step,
    Stepwise,
    likelihood_gradient,
)

_STRENGTH = not_negative(say="0.25")
_BETAS = within("[0, 1)", "{name} = {value}: give two numbers in [0, 1)")


@dataclass(frozen=True)
class REDDiff(Stepwise):
    """Estimates x_0 with regularisation by denoising; the operator must be differentiable.

    It needs a Gaussian likelihood. mu starts at ``damped_pinv(y, sigma_y^2)`` if the operator is
    linear, else at noise.
    """

    num_steps: Annotated[int, at_least(2)] = 1000  # T, points of the grid
    learning_rate: Positive = 0.1  # of Adam
    betas: Annotated[tuple[float, float], _BETAS] = (0.9, 0.99)  # of Adam
    strength: Annotated[float, _STRENGTH] = 0.0625  # lambda, of the prior against the data
    levels: Literal["prior", "ddpm"] = "prior"  # the schedule of alpha_t and sigma_t

    needs = Needs(gaussian=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Estimates ``mu: [batch, *event]`` by Algorithm 1; ``x_T`` is the first eps times sigma_T.

        Raises ``ValueError`` for ``levels = "ddpm"`` and a schedule longer than DDPM's.
        """
        schedule, operator = prior.schedule, likelihood.operator
        eps = x_T / float(schedule.sigma[-1])
        if isinstance(operator, LinearOperator):
            mu = operator.damped_pinv(likelihood.y, likelihood.noise_std**2)
            mu = mu.clone(memory_format=torch.contiguous_format)
        else:
            mu = randn_like(eps, generator)
        adam = Adam(mu, self.learning_rate, self.betas)
        grid = schedule.timesteps(self.num_steps)[:0:-1]  # t_{N-1} .. t_1
        table, shift = (NoiseSchedule.linear(), 1) if self.levels == "ddpm" else (schedule, 0)
        if grid[0] + shift > table.num_levels:
            raise ValueError(
                f"levels = 'ddpm': DDPM has {table.num_levels} levels, this prior's schedule "
                f"{schedule.num_levels}; use levels = 'prior'"
            )
        for i, t in enumerate(grid):
            if i > 0:
                eps = randn_like(mu, generator)
            alpha, sigma = float(table.alpha[t + shift]), float(table.sigma[t + shift])
            x_t = alpha * mu + sigma * eps  # line 4
            gradient = prior.predict_eps(x_t, t).sub_(eps)
            gradient.mul_(self.strength * sigma / alpha)  # line 5
            # - d/dmu |y - A(mu)|^2 / 2 is sigma_y^2 times the score.
            score = likelihood_gradient(likelihood, mu)
            gradient.sub_(score, alpha=likelihood.noise_std**2)
            adam.step(gradient)  # line 6, in place
            yield Step(i, len(grid), t, x_t, mu.clone())
        return mu
