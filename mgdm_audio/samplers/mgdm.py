"""MGDM: A Mixture-Based Framework for Guiding Diffusion Models (arXiv 2502.03332), Algorithms 1-3.

The posterior at level t is a mixture over s < t of distributions guided at level s; a Gibbs chain
on (x_0, x_s, x_t) walks it. Each sweep draws from the three conditionals

    (a)  x_s | x_0, x_t  prop. to  g(y | D_s(x_s)) q(x_s | x_0, x_t)   by a Gaussian variational fit
    (b)  x_0 | x_s       ~  p(x_0 | x_s)                               by M points of DDIM
    (c)  x_t | x_s       ~  q(x_t | x_s)                               exactly

The defaults are the paper's. Its published code differs in the kernel of (c) and in the levels that
the outer loop visits; ``noising`` and ``outer`` select either. With both, as in the preset
mgdm-code, and on the same noise and s, the states are those of the published code, but for

- its laws mu* and uniform of s, which exclude t_{i-1}; the paper's, and ours, include it;
- its inner grids, where the points of torch.linspace(0, s, M) are rounded down as floating-point
  numbers: for 17 of the 999 s one level of the M = 15 is one lower than floor(j s / (M - 1));
- its tables of levels, which are float32: worth .0013 dB at most, on Gaussian stems.

Two things are ours: s is drawn for every batch item and not once for a batch, so that an item's
result does not depend on its neighbours; and the gradient of the variational objective is written
out except through the denoiser, which is the same number at less cost.

Beyond the paper, ``covariance`` gives the potential what the denoiser does not know of x_0,

    N(y; A D_s(x_s), sigma_y^2 I + A C_s A^T),        C_s = Cov(x_0 | x_s)

without which the Gibbs chain has the wrong target and more sweeps do not help. With C_s the
denoiser's slope is known too, dD_s/dx_s = (alpha_s / sigma_s^2) C_s (Tweedie), so (a) is Gaussian
conditioning, without a gradient: ``gauss_step = "exact"``, exact where D_s is linear. ``project``
ends with a draw of x_0 given x_s and y, which the paper's last x_0 is not; without a covariance it
moves that x_0 the shortest way to A x_0 = y.

The grid is part of the method: on a variance-preserving grid of 20 steps the returned x_0 keeps a
visible spread, on the audio grid it does not. The last x_0 is a draw from p(x_0 | x_s) at the
lowest level, with no likelihood after it, so it fits y no better than that level's noise allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor

from mgdm_audio.broadcast import per_item
from mgdm_audio.diffusion import Level, Prior, bridge, ddim, sample_bridge, sample_forward
from mgdm_audio.diffusion.posterior import Covariance
from mgdm_audio.measurement import Likelihood, LinearOperator
from mgdm_audio.rng import Generators, randint, randn_like
from mgdm_audio.samplers.adam import Adam
from mgdm_audio.samplers.base import (
    Needs,
    PerStep,
    Run,
    Step,
    Stepwise,
    likelihood_score,
    require_choices,
    require_fit,
)
from mgdm_audio.samplers.conditioning import (
    condition_clean,
    condition_state,
    covariant_score,
)

IndexLaw = Literal["mu*", "mu0", "uniform", "fixed"]


@dataclass(frozen=True)
class MGDM(Stepwise):
    """Mixture-guided diffusion model; needs nothing of the operator but a gradient.

    With a ``covariance`` or ``project`` it needs a LinearOperator and a Gaussian likelihood.

    Laws of the index s at level t_i (``index_law``), all on integers >= 1:
    ``mu*``: U[min_index, t_{i-1}] while i > floor(threshold K), then t_{i-1} (the paper's choice);
    ``uniform``: U[min_index, t_{i-1}] throughout; ``mu0``: U[1, t_{i-1} // 5 - 1], near the clean
    end; ``fixed``: t_{i-1}. An empty interval is its upper end.
    """

    num_steps: int = 20  # K, points of the grid t_1 < ... < t_K
    gibbs_steps: int = 6  # R, sweeps at each level
    denoise_steps: int = 15  # M, points of the DDIM draw of x_0 given x_s
    vi_steps: PerStep = PerStep(3, last=(5, 20))  # G, gradient steps; rules count t_K .. t_1
    learning_rate: PerStep = PerStep(0.005)  # of Adam
    eta: float = 1.0  # DDIM's stochasticity
    index_law: IndexLaw = "mu*"  # law of s
    min_index: int = 10  # smallest s that mu* and uniform draw
    threshold: float = 0.25  # share of the levels, from below, where mu* is t_{i-1}
    noising: Literal["forward", "bridge"] = "forward"  # (c): q(x_t | x_s) or q(x_t | x_s, x_next)
    outer: Literal["paper", "code"] = "paper"  # levels visited, see _levels
    covariance: Literal["none"] | Covariance = "none"  # C_s; "none": the paper's potential
    gauss_step: Literal["variational", "exact"] = "variational"  # how (a) is drawn
    project: bool = False  # end on x_0 given y

    def __post_init__(self) -> None:
        require_choices(self)
        least = {"num_steps": 4, "gibbs_steps": 1, "denoise_steps": 1, "min_index": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} = {getattr(self, name)}: give at least {low}")
        require_fit(self.vi_steps, self.learning_rate)
        if not 0 <= self.eta <= 1 or not 0 <= self.threshold <= 1:
            raise ValueError("eta and threshold lie in [0, 1]")
        if self.gauss_step == "exact" and self.covariance == "none":
            raise ValueError("gauss_step = 'exact' needs a covariance, say covariance = 'band'")

    @property
    def needs(self) -> Needs:
        if self.covariance == "none" and not self.project:
            return Needs()
        return Needs(operator=LinearOperator, gaussian=True, case="(covariance, project)")

    def algorithm(
        self, prior: Prior, likelihood: Likelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Algorithm 1: a draw of ``x_0: [batch, *event]`` given ``likelihood.y``."""
        grid, schedule = self._levels(prior), prior.schedule
        x_t = x_T
        x_0 = prior.predict_x0(x_t, grid[0])
        first = 0 if self.outer == "paper" else 1
        outer = range(first, len(grid) - 2)
        for k, j in enumerate(outer):  # the paper's i = K - k, down to 2
            t, t_prev = grid[j], grid[j + 1]
            if j > 0:  # the level above hands over; the paper's first level is the top itself
                t_next, x_next = grid[j - 1], x_t
                x_t = sample_bridge(
                    schedule, x_0, x_next, 0, t, t_next, eta=self.eta, generator=generator
                )
            s = self._draw_index(k, t_prev, len(x_t), generator)  # shared by the R sweeps
            for _ in range(self.gibbs_steps):  # Algorithm 2
                step = self._condition if self.gauss_step == "exact" else self._fit_and_draw
                x_s = step(prior, likelihood, x_0, x_t, s, t, k, generator)  # (a)
                x_0 = self._denoise(prior, x_s, s, generator)  # (b)
                if self.noising == "forward" or j == 0:  # (c)
                    x_t = sample_forward(schedule, x_s, s, t, generator=generator)
                else:
                    # The exact bridge, eta = 1, whatever eta the DDIM steps have.
                    x_t = sample_bridge(schedule, x_s, x_next, s, t, t_next, generator=generator)
            yield Step(k, len(outer), t, x_t, x_0)
        if self.project:
            x_0 = condition_clean(
                prior, likelihood, x_0, x_s, s, self.covariance, generator=generator
            )
        return x_0

    def _levels(self, prior: Prior) -> list[int]:
        """The grid, descending, ending in t_1, t_0 = 0; both loops stop above t_1.

        Paper: K steps, t_K .. t_0, and the loop starts at t_K itself. Code: K points, t_{K-1} ..
        t_0, and the loop starts one below the top.
        """
        points = self.num_steps + 1 if self.outer == "paper" else self.num_steps
        return prior.schedule.timesteps(points)[::-1]

    def _draw_index(self, k: int, t_prev: int, batch: int, generator: Generators) -> Tensor:
        """s for every item at the ``k``-th outer level: ``[batch]`` int64, ``1 <= s <= t_prev``."""
        low, high = t_prev, t_prev
        # k = K - i; the rounding guard keeps 0.29 * 100 at 29.
        early = k < self.num_steps - int(self.threshold * self.num_steps + 1e-9)
        if self.index_law == "uniform" or (self.index_law == "mu*" and early):
            low = self.min_index
        elif self.index_law == "mu0":
            low, high = 1, max(1, t_prev // 5 - 1)
        return randint(min(low, high), high + 1, batch=batch, generator=generator)

    def _fit_and_draw(
        self,
        prior: Prior,
        likelihood: Likelihood,
        x_0: Tensor,
        x_t: Tensor,
        s: Tensor,
        t: int,
        k: int,
        generator: Generators,
    ) -> Tensor:
        """Algorithm 3, Gauss_VI: ``x_s ~ N(mu, diag e^rho)``, the fit of conditional (a).

        Minimises KL = E[-log g(y | D_s(X)) + |X - m|^2 / (2 v) - sum(rho) / 2] + const. with
        q(x_s | x_0, x_t) = N(m, v I), by one draw of X = mu + e^{rho/2} xi a step, the prior's
        term included: the paper reports its closed form to do worse (Remark A.1). As in the
        published code the fit runs on lambda = rho / 2, and every sweep starts a fresh Adam.
        """
        kernel = bridge(prior.schedule, 0, s, t)
        mean = kernel.mean(x_0, x_t)
        precision = per_item(kernel.std, mean) ** -2
        mu = mean.clone()
        log_std = per_item(kernel.std, mean).log().expand_as(mean).clone()
        score_of: Callable[..., Tensor] = likelihood_score
        if self.covariance != "none":
            score_of = partial(covariant_score, covariance=self.covariance)
        learning_rate = self.learning_rate.at(k, self.num_steps)
        adam_mu, adam_log_std = Adam(mu, learning_rate), Adam(log_std, learning_rate)
        for _ in range(int(self.vi_steps.at(k, self.num_steps))):
            step = log_std.exp() * randn_like(mu, generator)
            x_s = mu + step
            # d/dX of the integrand; by reparameterisation also its gradient in mu.
            score = score_of(prior, likelihood, x_s, s)
            gradient = (x_s - mean) * precision - score
            adam_mu.step(gradient)
            adam_log_std.step(gradient * step - 1)  # the entropy's gradient is -1
        return mu + log_std.exp() * randn_like(mu, generator)

    def _condition(
        self,
        prior: Prior,
        likelihood: Any,
        x_0: Tensor,
        x_t: Tensor,
        s: Tensor,
        t: int,
        k: int,
        generator: Generators,
    ) -> Tensor:
        """Conditional (a) in closed form, with D_s linear about a draw from q(x_s | x_0, x_t)."""
        assert self.covariance != "none"  # see __post_init__
        kernel = bridge(prior.schedule, 0, s, t)
        mean = kernel.mean(x_0, x_t)
        return condition_state(
            prior, likelihood, mean, kernel.std, s, self.covariance, generator=generator
        )

    def _denoise(self, prior: Prior, x_s: Tensor, s: Tensor, generator: Generators) -> Tensor:
        """Conditional (b): DDIM on the M levels floor(linspace(0, s, M)), M - 1 denoiser calls."""
        n = max(self.denoise_steps, 2)  # one point means one step, straight to D(x_s)
        # Where s < M - 1 levels repeat. A step between equal levels is the identity, but level 0
        # has no network call to make: repeats are moved up to level 1.
        levels: list[Level] = [(j * s // (n - 1)).clamp(min=1) for j in range(n - 1, 0, -1)]
        return ddim(prior, x_s, [*levels, 0], eta=self.eta, generator=generator)
