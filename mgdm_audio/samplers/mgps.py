"""MGPS: Variational Diffusion Posterior Sampling with Midpoint Guidance (arXiv 2410.09945).

A posterior transition from level t to s is drawn through a midpoint l < s. The lower l is, the more
accurate are the denoiser and the likelihood there, but the harder is the step from t to l:

    x_l ~ g(y | D_l(x_l)) q(x_l | D_t(x_t), x_t)    by a Gaussian variational fit
    x_s ~ q(x_s | x_l, x_t)                         exactly: the bridge

The fit N(mu, diag e^{2 lambda}) starts at the prior's factor N(m, v I) and takes a few steps of
Adam on

    KL = E[-log g(y | D_l(X))] + sum((mu - m)^2 / (2 v) + e^{2 lambda} / (2 v) - lambda) + const.

with one draw of X for each step. The prior's terms are in closed form; in MGDM they are sampled.

The equations are those of the authors' published code; they have not been compared with the paper's
full text. That code's warm start is not implemented: down to level 700 of its image runs, a second
fit at level 1 initialises the next fit. Its runs on Gaussian mixtures do not use it.
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
    """Samples by midpoint guidance; the operator must be differentiable.

    The defaults are those published for FFHQ.
    """

    num_steps: Annotated[int, at_least(3)] = 300  # points of the grid
    midpoint: Shares = 0.5  # eta: l = floor(eta s)
    # The number of Adam steps; rules count from the noisiest level down.
    vi_steps: FitSteps = PerStep(2, first=(5, 20), last=(19, 2), every=(10, 20))
    learning_rate: FitRate = PerStep(0.03)  # of Adam

    def algorithm(
        self, prior: Prior, likelihood: Likelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` given ``likelihood.y``: D at the grid's lowest level."""
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
        """Draws ``x_l ~ N(mu, diag e^{2 lambda})``, a fit of g(y | D_l(x_l)) q(x_l | x_0, x_t)."""
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
