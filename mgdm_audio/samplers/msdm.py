"""MSDM: the Dirac and Gaussian separators of Multi-Source Diffusion Models (arXiv 2302.02257).

They integrate the probability-flow ODE ``dx / d sigma = -sigma grad log p(x | y)``, variance
exploding, by Euler steps down N levels, with the churn of EDM (arXiv 2206.00364, Algorithm 2) and R
resamplings of each level. The score of the noisy posterior is approximated in one of two ways.

``dirac`` assumes that y is the exact sum of the noisy sources, so one follows from the others,
``x_j = (y - sum_{k != j} w_k x_k) / w_j``. By the chain rule, with ``s = (x - D(x)) / sigma``,

    d x_k / d sigma = s_k - (w_k / w_j) s_j         for k != j

``gaussian`` assumes that y is their sum plus noise of standard deviation ``gamma sigma``:

    d x / d sigma = s - sigma / (gamma sigma)^2 A^T (y - A x)

where the second term is the score of N(y; A x, (gamma sigma)^2). The published code has half of
that coefficient with gamma = .75, which equals gamma = .75 sqrt(2), the default here. Neither uses
the likelihood's noise_std. Added here: any weights of the mixture, for ``gaussian`` any
LinearOperator, and ``dirac`` computes x_j from the others after each step too, so that its result
sums to y.

The levels are noise levels, not indices of a schedule, and the denoiser is called directly. With
the independent priors of ``diffusion.join`` this is ISDM of the same paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from torch import Tensor

from mgdm_audio.diffusion import Prior, karras_levels
from mgdm_audio.measurement import Likelihood, LinearOperator, MixtureSum
from mgdm_audio.ranges import within
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise

_STEPS = "num_steps is at least 2 and num_resamples at least 1"
_LEVELS = "rho and gamma are positive, s_churn is at least 0"
_Positive = Annotated[float, within("(0, inf)", _LEVELS)]


@dataclass(frozen=True)
class MSDM(Stepwise):
    """Separates by MSDM; needs a MixtureSum (dirac) or LinearOperator (gaussian), no gradient."""

    posterior: Literal["dirac", "gaussian"] = "dirac"  # how the noisy posterior is approximated
    num_steps: Annotated[int, within("[2, inf)", _STEPS)] = 150  # N
    num_resamples: Annotated[int, within("[1, inf)", _STEPS)] = 2  # R, visits to each level
    s_churn: Annotated[float, within("[0, inf)", _LEVELS)] = 20.0  # 0: a deterministic ODE
    source: int = 0  # j, the source that dirac computes from the others
    gamma: _Positive = 0.75 * 2**0.5  # gaussian: standard deviation of y divided by sigma
    sigma_min: float = 1e-4  # lowest noise level before 0
    sigma_max: float = 1.0  # highest noise level
    rho: _Positive = 7.0  # spacing of the levels

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError("noise levels: 0 < sigma_min < sigma_max")

    @property
    def levels(self) -> list[float]:
        """The N noise levels from ``sigma_max`` to ``sigma_min`` (EDM, eq. 5), then 0."""
        return [*karras_levels(self.sigma_max, self.sigma_min, self.num_steps, self.rho), 0.0]

    @property
    def needs(self) -> Needs:
        operator = LinearOperator if self.posterior == "gaussian" else MixtureSum
        return Needs(operator=operator, case=f"({self.posterior})")

    def check(self, prior: Prior, likelihood: Any) -> None:
        super().check(prior, likelihood)
        weights = [] if self.posterior == "gaussian" else likelihood.operator.weights
        present = [k for k, weight in enumerate(weights) if weight]
        if self.posterior == "dirac" and self.source not in present:
            raise ValueError(f"source = {self.source}: use one of the mixture's sources, {present}")

    def algorithm(
        self, prior: Prior, likelihood: Likelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` given ``likelihood.y`` in N R denoiser calls.

        ``x_T`` is rescaled from the prior's noisiest level to ``sigma_max``.
        """
        operator: LinearOperator = likelihood.operator  # type: ignore[assignment]
        x = x_T * (self.sigma_max / float(prior.schedule.sigma[-1]))
        churn = min(self.s_churn / self.num_steps, 2**0.5 - 1)
        for i, (sigma, sigma_next) in enumerate(pairwise(self.levels)):
            sigma_hat = sigma * (1 + churn)
            for r in range(self.num_resamples):
                if r > 0:  # back up to sigma
                    x = x + (sigma**2 - sigma_next**2) ** 0.5 * randn_like(x, generator)
                if churn > 0:
                    x = x + (sigma_hat**2 - sigma**2) ** 0.5 * randn_like(x, generator)
                x = self._derive(operator, likelihood.y, x)
                d = self._drift(prior, operator, likelihood.y, x, sigma_hat)
                x_hat, x = x, self._derive(operator, likelihood.y, x + (sigma_next - sigma_hat) * d)
            x_0 = self._derive(operator, likelihood.y, x_hat - sigma_hat * d)  # down to 0
            t = max(prior.schedule.nearest(sigma_next), 1)
            yield Step(i, self.num_steps, t, float(prior.schedule.alpha[t]) * x, x_0)
        return x

    def _derive(self, operator: LinearOperator, y: Tensor, x: Tensor) -> Tensor:
        """Returns x, for ``dirac`` with source j set to y minus the other sources."""
        if self.posterior == "gaussian":
            return x
        j, weight = self._derived(operator)
        x = x.clone()
        x[:, j] += (y - operator(x)) / weight
        return x

    def _drift(
        self, prior: Prior, operator: LinearOperator, y: Tensor, x: Tensor, sigma: float
    ) -> Tensor:
        """Returns ``d x / d sigma``: ``[batch, *event]``."""
        level = x.new_full((), sigma)
        s = (x - prior.denoiser(x, level)) / sigma  # -sigma times the prior's score
        if self.posterior == "gaussian":
            return s - operator.adjoint(y - operator(x)) / (self.gamma**2 * sigma)
        j, weight = self._derived(operator)
        return s - operator.adjoint(s[:, j] / weight)

    def _derived(self, operator: LinearOperator) -> tuple[slice, float]:
        """Returns source j as a slice, and its weight."""
        assert isinstance(operator, MixtureSum)
        return slice(self.source, self.source + 1), operator.weights[self.source]
