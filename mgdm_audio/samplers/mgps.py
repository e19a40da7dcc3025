"""MGPS: Variational Diffusion Posterior Sampling with Midpoint Guidance (arXiv 2410.09945).

A posterior transition from level t to s passes by a midpoint l < s, where the denoiser is better
and the likelihood simpler than at s, while the way from t to l is harder the lower l is:

    x_l ~ g(y | D_l(x_l)) q(x_l | D_t(x_t), x_t)    by a Gaussian variational fit
    x_s ~ q(x_s | x_l, x_t)                         exactly: the bridge

The fit is N(mu, diag e^{2 lambda}), started at the prior's factor N(m, v I) and moved by a
few steps of Adam down

    KL = E[-log g(y | D_l(X))] + sum((mu - m)^2 / (2 v) + e^{2 lambda} / (2 v) - lambda) + const.

with one draw of X for each. The prior's terms are closed form, where MGDM draws them as well.

The equations are those of the authors' published code; the paper's own text was not at hand. Left
out is the warm start with which that code runs its images down to level 700, a second fit at level
1 whose outcome starts the next one. Its run on Gaussian mixtures is without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior, bridge, sample_bridge
from mgdm_audio.measurement import Likelihood
from mgdm_audio.ranges import at_least
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.adam import Adam
from mgdm_audio.samplers.base import (
    PerStep,
    Run,
    Step,
    Stepwise,
    likelihood_score,
)
from mgdm_audio.samplers.options import FitRate, FitSteps, Shares


@dataclass(frozen=True)
class MGPS(Stepwise):
    """Needs nothing of the operator but a gradient. The defaults are those published for FFHQ."""

    num_steps: Annotated[int, at_least(3)] = 300  # points of the grid
    midpoint: Shares = 0.5  # eta: l = floor(eta s)
    # Steps of Adam; rules count from the noisiest level down.
    vi_steps: FitSteps = PerStep(2, first=(5, 20), last=(19, 2), every=(10, 20))
    learning_rate: FitRate = PerStep(0.03)  # of Adam

    def algorithm(
        self, prior: Prior, likelihood: Likelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """``x_0: [batch, *event]`` given ``likelihood.y``: D at the lowest level of the grid."""
        grid = prior.schedule.timesteps(self.num_steps)[:0:-1]  # t_{N-1} .. t_1
        x_t = x_T
        x_0 = prior.predict_x0(x_t, grid[0])
        total = len(grid) - 1
        for k, (t, s) in enumerate(pairwise(grid)):
            low = max(int(self.midpoint * s), 1)
            x_low = self._fit_and_draw(prior, likelihood, x_0, x_t, low, t, k, generator)
            x_t = sample_bridge(prior.schedule, x_low, x_t, low, s, t, generator=generator)
            x_0 = prior.predict_x0(x_t, s)
            yield Step(k, total, s, x_t, x_0)
        return x_0

    def _fit_and_draw(
        self,
        prior: Prior,
        likelihood: Likelihood,
        x_0: Tensor,
        x_t: Tensor,
        low: int,
        t: int,
        k: int,
        generator: Generators,
    ) -> Tensor:
        """``x_l ~ N(mu, diag e^{2 lambda})``, the fit of g(y | D_l(x_l)) q(x_l | x_0, x_t)."""
        total = self.num_steps - 2
        kernel = bridge(prior.schedule, 0, low, t)
        mean, std = kernel.mean(x_0, x_t), float(kernel.std)
        mu, scale = mean.clone(), torch.zeros_like(mean)  # scale: lambda - log sqrt(v)
        learning_rate = self.learning_rate.at(k, total)
        adam_mu, adam_scale = Adam(mu, learning_rate), Adam(scale, learning_rate)
        for _ in range(int(self.vi_steps.at(k, total))):
            ratio = scale.exp()
            step = std * ratio * randn_like(mu, generator)
            score = likelihood_score(prior, likelihood, mu + step, low)
            adam_mu.step((mu - mean) / std**2 - score)
            adam_scale.step(ratio**2 - 1 - score * step)
        return mu + std * scale.exp() * randn_like(mu, generator)
