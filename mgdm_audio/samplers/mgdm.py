"""MGDM: A Mixture-Based Framework for Guiding Diffusion Models (arXiv 2502.03332), Algorithms 1-3.

The posterior at level t is a mixture over s < t of distributions guided at level s, and a Gibbs
chain on (x_0, x_s, x_t) samples it. Each sweep draws from the three conditionals

    (a)  x_s | x_0, x_t  prop. to  g(y | D_s(x_s)) q(x_s | x_0, x_t)   by a Gaussian variational fit
    (b)  x_0 | x_s       ~  p(x_0 | x_s)                               by M points of DDIM
    (c)  x_t | x_s       ~  q(x_t | x_s)                               exactly

The defaults are the paper's; ``noising`` and ``outer`` select those of its published code (preset
mgdm-code). Two things differ here: every batch item draws its own s, and the gradient of the
variational objective is in closed form except through the denoiser, which costs less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from mgdm_audio.diffusion import Level, Prior, bridge, ddim, sample_bridge, sample_forward
from mgdm_audio.measurement import Likelihood
from mgdm_audio.ranges import Count, at_least
from mgdm_audio.rng import Generators, randint, randn_like
from mgdm_audio.samplers.adam import Adam
from mgdm_audio.samplers.base import PerStep, Run, Step, Stepwise, likelihood_score
from mgdm_audio.samplers.options import (
    FitRate,
    FitSteps,
    Shares,
)
from mgdm_audio.tensors import per_item


@dataclass(frozen=True)
class MGDM(Stepwise):
    """Samples the posterior by mixture-guided diffusion; the operator must be differentiable.

    The law of s at level t_i (``index_law``) is on integers >= 1. ``mu*`` (the paper's):
    U[min_index, t_{i-1}] while i > floor(threshold K), then t_{i-1}; ``uniform``:
    U[min_index, t_{i-1}]; ``mu0``: U[1, t_{i-1} // 5 - 1]; ``fixed``: t_{i-1}. Where an interval is
    empty, s is its upper end.
    """

    num_steps: Annotated[int, at_least(4)] = 20  # K, points of the grid t_1 < ... < t_K
    gibbs_steps: Count = 6  # R, sweeps at each level
    denoise_steps: Count = 15  # M, points of the DDIM draw of x_0 given x_s
    vi_steps: FitSteps = PerStep(3, last=(5, 20))  # G, gradient steps; rules count t_K .. t_1
    learning_rate: FitRate = PerStep(0.005)  # of Adam
    eta: Shares = 1.0  # DDIM's stochasticity
    index_law: Literal["mu*", "mu0", "uniform", "fixed"] = "mu*"  # law of s
    min_index: Count = 10  # smallest s that mu* and uniform draw
    threshold: Shares = 0.25  # share of the levels, the lowest ones, where mu* is t_{i-1}
    noising: Literal["forward", "bridge"] = "forward"  # (c): q(x_t | x_s) or q(x_t | x_s, x_u)
    outer: Literal["paper", "code"] = "paper"  # K steps from t_K, or K points that start below it

    _score = staticmethod(likelihood_score)  # grad_{x_s} log g(y | D_s(x_s))

    def algorithm(
        self, prior: Prior, likelihood: Likelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` given ``likelihood.y`` by Algorithm 1."""
        schedule, first = prior.schedule, 0 if self.outer == "paper" else 1
        grid = schedule.timesteps(self.num_steps + 1 - first)[::-1]  # descending, to t_1, t_0 = 0
        x_t, x_0 = x_T, prior.predict_x0(x_T, grid[0])
        levels = range(first, len(grid) - 2)  # the last of them is t_2
        for k, j in enumerate(levels):  # the paper's i = K - k, down to 2
            t, t_prev = grid[j], grid[j + 1]
            if j > 0:  # a bridge from the level above; the paper's first level has none above
                u, x_u = grid[j - 1], x_t
                x_t = sample_bridge(schedule, x_0, x_u, 0, t, u, eta=self.eta, generator=generator)
            s = self._draw_index(k, t_prev, len(x_t), generator)  # shared by the R sweeps
            for _ in range(self.gibbs_steps):  # Algorithm 2
                x_s = self._fit_and_draw(prior, likelihood, x_0, x_t, s, t, k, generator)  # (a)
                x_0 = self._denoise(prior, x_s, s, generator)  # (b)
                if self.noising == "forward" or j == 0:  # (c)
                    x_t = sample_forward(schedule, x_s, s, t, generator=generator)
                else:  # the exact bridge has eta = 1, whatever eta the DDIM steps have
                    x_t = sample_bridge(schedule, x_s, x_u, s, t, u, generator=generator)
            yield Step(k, len(levels), t, x_t, x_0)
        return self._end(prior, likelihood, (x_0, x_s, s), generator)

    def _draw_index(self, k: int, t_prev: int, batch: int, generator: Generators) -> Tensor:
        """Draws s in ``1 .. t_prev`` for every item at outer level ``k``: int64 ``[batch]``."""
        low, high = t_prev, t_prev
        early = k < self.num_steps - int(self.threshold * self.num_steps + 1e-9)  # .29 * 100 is 29
        if self.index_law == "uniform" or (self.index_law == "mu*" and early):
            low = self.min_index
        elif self.index_law == "mu0":
            low, high = 1, max(1, t_prev // 5 - 1)
        return randint(min(low, high), high + 1, batch=batch, generator=generator)

    def _fit_and_draw(
        self, prior: Prior, likelihood: Likelihood, x_0: Tensor, x_t: Tensor, s: Tensor, t: int,
        k: int, generator: Generators,
    ) -> Tensor:  # fmt: skip
        """Draws ``x_s ~ N(mu, diag e^rho)``, the fit of conditional (a): Algorithm 3, Gauss_VI.

        Minimises KL = E[-log g(y | D_s(X)) + |X - m|^2 / (2 v) - sum(rho) / 2] + const. with
        q(x_s | x_0, x_t) = N(m, v I). Every step draws one X = mu + e^{rho/2} xi, also for the
        prior's term, whose closed form does worse (Remark A.1). As in the published code the fit
        is over lambda = rho / 2, and every sweep starts a new Adam.
        """
        kernel = bridge(prior.schedule, 0, s, t)
        mean, std = kernel.mean(x_0, x_t), per_item(kernel.std, x_t)
        mu, log_std, precision = mean.clone(), std.log().expand_as(mean).clone(), std**-2
        learning_rate = self.learning_rate.at(k, self.num_steps)
        adam_mu, adam_log_std = Adam(mu, learning_rate), Adam(log_std, learning_rate)
        for _ in range(int(self.vi_steps.at(k, self.num_steps))):
            step = log_std.exp() * randn_like(mu, generator)
            x_s = mu + step
            # d/dX of the integrand, which by reparameterisation is also its gradient in mu.
            gradient = (x_s - mean) * precision - self._score(prior, likelihood, x_s, s)
            adam_mu.step(gradient)
            adam_log_std.step(gradient * step - 1)  # the entropy's gradient is -1
        return mu + log_std.exp() * randn_like(mu, generator)

    def _denoise(self, prior: Prior, x_s: Tensor, s: Tensor, generator: Generators) -> Tensor:
        """Draws conditional (b) by DDIM on M levels floor(linspace(0, s, M)), in M - 1 calls."""
        n = max(self.denoise_steps, 2)  # M = 1 also takes one step, to D(x_s)
        # For s < M - 1 some levels repeat, whose steps change nothing. The network has no level 0.
        levels: list[Level] = [(j * s // (n - 1)).clamp(min=1) for j in range(n - 1, 0, -1)]
        return ddim(prior, x_s, [*levels, 0], eta=self.eta, generator=generator)

    def _end(
        self, prior: Prior, likelihood: Likelihood, last: tuple[Tensor, ...], generator: Generators
    ) -> Tensor:
        """Returns x_0 of the ``last`` (x_0, x_s, s); the noise at s limits its fit to y."""
        return last[0]
