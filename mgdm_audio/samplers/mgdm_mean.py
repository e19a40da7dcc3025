"""MGDM whose estimate is the mean of its chain; this sampler has not been published.

The x_s of a sweep of MGDM (arXiv 2502.03332) is distributed as x_s given y, at any level. So by the
tower property E[x_0 | y] is the average over sweeps of

    m(x_s) = E[x_0 | x_s, y] = D_s + C_s A^T (A C_s A^T + sigma_y^2 I)^-1 (y - A D_s)

(C_s = Cov(x_0 | x_s), see ``mgdm_covariance``), while the paper's last x_0 is one draw. D_s is the
first call of the DDIM draw of x_0, so a mean costs no further call. The average is over sweeps with
``mean_min <= sigma_s / alpha_s <= mean_max``, item by item: at higher noise m(x_s) is a poor
estimate, at lower noise successive sweeps are nearly equal. Levels all of whose s are below
``mean_min`` are not run.

``sample(start=x_0)`` starts from an estimate of x_0 instead of noise: with x_t ~ q(x_t | x_0) at
the first level whose sigma_t / alpha_t is at most ``refine_from``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from torch import Tensor

from mgdm_audio.conditioning import condition, draw_deviation
from mgdm_audio.diffusion import Prior, predict_posterior, sample_bridge, sample_forward
from mgdm_audio.ranges import within
from mgdm_audio.rng import Generators
from mgdm_audio.samplers.base import Run, Step
from mgdm_audio.samplers.chain_mean import ChainMean
from mgdm_audio.samplers.mgdm_covariance import CovarianceMGDM

_ABOVE = within("(0, inf)", "{name} = {value:g}: give a noise level above 0")
_Level = tuple[int, int, int]  # K - i, t_i and t_{i-1}


@dataclass(frozen=True)
class MeanMGDM(CovarianceMGDM):
    """Estimates the posterior mean by the mean of an MGDM chain.

    It has the requirements of ``CovarianceMGDM``. Raises ``ValueError`` for other settings of
    ``noising`` and ``outer`` than the paper's.
    """

    estimate: Literal["draw", "mean"] = "mean"  # the last x_0, or the mean of the chain
    mean_min: float = 0.1  # least sigma_s / alpha_s of the averaged sweeps
    mean_max: float = 1.0  # largest sigma_s / alpha_s of the averaged sweeps
    refine_from: Annotated[float, _ABOVE] = 0.25  # largest sigma_t / alpha_t after a start

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.noising, self.outer) != ("forward", "paper"):
            raise ValueError("a chain is averaged with noising = 'forward' and outer = 'paper'")
        if self.estimate == "mean" and (self.covariance == "none" or self.project):
            raise ValueError(
                "estimate = 'mean' needs a covariance, say 'band', and project = false"
            )
        if not 0 <= self.mean_min <= self.mean_max:
            raise ValueError("the levels that are averaged: 0 <= mean_min <= mean_max")

    def levels(self, prior: Prior, *, started: bool = False) -> list[_Level]:
        """Returns the levels to run, from an estimate if ``started``.

        Raises ``ValueError`` if there are none.
        """
        noise = prior.schedule.noise_level
        grid = prior.schedule.timesteps(self.num_steps + 1)[::-1]
        levels = [(j, grid[j], grid[j + 1]) for j in range(len(grid) - 2)]  # of Algorithm 1
        lowest = float(noise[grid[-3]])
        if started:
            levels = [level for level in levels if noise[level[1]] <= self.refine_from]
        if not levels:
            raise ValueError(f"refine_from = {self.refine_from:g}: give at least {lowest:.3g}")
        if self.estimate == "draw":
            return levels
        mu0 = self.index_law == "mu0"
        highest = [float(noise[max(1, s // 5 - 1) if mu0 else s]) for _, _, s in levels]
        if highest[0] < self.mean_min:
            raise ValueError(f"mean_min = {self.mean_min:g}: give at most {highest[0]:.3g}")
        return [level for level, s in zip(levels, highest, strict=True) if s >= self.mean_min]

    def algorithm(self, prior: Prior, likelihood: Any, x_T: Tensor, generator: Generators) -> Run:
        """Estimates ``x_0: [batch, *event]`` given ``likelihood.y``."""
        if self.estimate == "draw":
            return (yield from super().algorithm(prior, likelihood, x_T, generator))
        levels = self.levels(prior)
        x_0 = prior.predict_x0(x_T, levels[0][1])
        return (yield from self._chain(prior, likelihood, x_0, x_T, levels, generator))

    def refinement(
        self, prior: Prior, likelihood: Any, start: Tensor, x_T: Tensor, generator: Generators
    ) -> Run:
        levels = self.levels(prior, started=True)
        alpha, sigma = prior.schedule.alpha, prior.schedule.sigma
        t = levels[0][1]
        x_t = float(alpha[t]) * start + float(sigma[t] / sigma[-1]) * x_T
        return (yield from self._chain(prior, likelihood, start, x_t, levels, generator))

    def _chain(
        self, prior: Prior, likelihood: Any, x_0: Tensor, x_t: Tensor, levels: Sequence[_Level],
        generator: Generators,
    ) -> Run:  # fmt: skip
        """Runs Algorithm 1 on ``levels``, from x_0 and from x_t at the first of them."""
        schedule, mean, u = prior.schedule, ChainMean(generator), None
        for i, (k, t, t_prev) in enumerate(levels):
            if u is not None:  # a bridge from the level above
                x_t = sample_bridge(schedule, x_0, x_t, 0, t, u, eta=self.eta, generator=generator)
            s, u = self._draw_index(k, t_prev, len(x_t), generator), t
            for _ in range(self.gibbs_steps):
                x_s = self._fit_and_draw(prior, likelihood, x_0, x_t, s, t, k, generator)  # (a)
                cached = prior
                if self.estimate == "mean":
                    cached = self._averaged(mean, prior, likelihood, x_s, s, generator)
                x_0 = self._denoise(cached, x_s, s, generator)  # (b)
                x_t = sample_forward(schedule, x_s, s, t, generator=generator)  # (c)
            estimate = x_0 if mean.value is None else mean.value
            deviation = mean.deviation if i + 1 == len(levels) else None
            yield Step(i, len(levels), t, x_t, estimate, deviation)
        if self.estimate == "draw":
            return self._end(prior, likelihood, (x_0, x_s, s), generator)
        return estimate

    def _averaged(
        self, mean: ChainMean, prior: Prior, likelihood: Any, x_s: Tensor, s: Tensor,
        generator: Generators,
    ) -> Prior:  # fmt: skip
        """Adds m(x_s) to ``mean`` and returns a prior whose next call returns the cached D(x_s)."""
        posterior = predict_posterior(prior, x_s, s, self.covariance)  # type: ignore[arg-type]
        given = condition(likelihood.operator, posterior, likelihood.noise_std)
        m = posterior.mean + given.shift(likelihood.residual(posterior.mean))
        deviation = None  # "isotropic" is not an estimate, and "jacobian" costs many calls
        if self.covariance in ("band", "reported"):
            deviation = draw_deviation(likelihood, posterior, given, generator)
        noise = prior.schedule.noise_level[s]
        mean.add(m, deviation, (noise >= self.mean_min) & (noise <= self.mean_max))
        return replace(prior, denoiser=_FirstCached(prior.denoiser, posterior.mean))


class _FirstCached:
    """A denoiser whose first call returns a cached result."""

    def __init__(self, denoiser: Any, cached: Tensor | None) -> None:
        self.denoiser, self.cached = denoiser, cached

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        cached, self.cached = self.cached, None
        result: Tensor = self.denoiser(x, sigma) if cached is None else cached
        return result
