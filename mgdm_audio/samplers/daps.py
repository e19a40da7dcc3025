"""DAPS: Decoupled Annealing Posterior Sampling (arXiv 2407.01521), Algorithm 1.

At each of the levels sigma_1 > .. > sigma_N, p(x_0 | x_t) is approximated by N(x_hat, sigma_i^2 I):

    x_hat = the probability flow ODE from (x_t, sigma_i) to 0
    x_0   ~ N(x_0; x_hat, sigma_i^2 I) g(y | x_0)           Langevin, started at x_hat
    x_t   = x_0 + sigma_{i+1} xi                            new noise: the levels are decoupled

The last x_0 is the draw. States are variance exploding, x_t = x_0 + sigma xi, as in the paper.

``tau`` replaces sigma_y in g. It is the paper's beta_y, a separate hyper-parameter because a
Langevin step must stay below 2 / curvature, which for a sum of K sources is 2 tau^2 / K and too
small at sigma_y = 1e-4. A chain that diverges is restarted from zeros, as in the published code,
where the whole batch is restarted; here only the item is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior, karras_levels
from mgdm_audio.measurement import GaussianLikelihood
from mgdm_audio.ranges import Count, Positive, within
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise
from mgdm_audio.samplers.langevin import langevin
from mgdm_audio.tensors import per_item

_RATIO = within("(0, 1]", "{name}: give a number in (0, 1]; 1 keeps the step")
_TAU = within("[0, inf)", "{name}: give a positive number, or 0 for the likelihood's noise_std")


@dataclass(frozen=True)
class DAPS(Stepwise):
    """Samples by decoupled annealing; the operator must be differentiable.

    It takes ``num_steps * ode_steps`` denoiser calls, none with a gradient. The defaults are those
    for audio.
    """

    num_steps: Count = 200  # N_A, annealing levels
    sigma_max: float = 20.0  # the first annealing level
    sigma_min: float = 1e-3  # the last annealing level
    rho: Positive = 7.0  # spacing of these and of the ODE's (Karras et al. 2022, eq. 5)
    ode_steps: Count = 5  # N_ODE, Euler steps, the last from ode_sigma_min to 0
    ode_sigma_min: float = 1e-4  # the ODE's last level before 0
    langevin_steps: Count = 50  # N
    learning_rate: Positive = 1e-5  # eta_0, Langevin's step at the first level
    learning_rate_ratio: Annotated[float, _RATIO] = 1e-3  # delta, last step size over the first
    tau: Annotated[float, _TAU] = 5e-3  # beta_y, replaces sigma_y; 0: the likelihood's noise_std

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ode_sigma_min <= self.sigma_min <= self.sigma_max < float("inf"):
            raise ValueError("noise levels: give 0 < ode_sigma_min <= sigma_min <= sigma_max")

    @property
    def needs(self) -> Needs:
        return Needs(gaussian=True, case="(tau > 0)") if self.tau > 0 else Needs()

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` given ``likelihood.y`` by Algorithm 1."""
        levels = [*karras_levels(self.sigma_max, self.sigma_min, self.num_steps, self.rho), 0.0]
        weight = (likelihood.noise_std / self.tau) ** 2 if self.tau > 0 else 1.0
        x_t = x_T * (self.sigma_max / float(prior.schedule.sigma[-1]))  # to sigma_max N(0, I)
        x_0 = x_t
        for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
            x_hat = self._flow(prior, x_t, sigma)  # line 3
            decay = 1 + i / self.num_steps * (self.learning_rate_ratio - 1)
            x_0 = langevin(  # lines 4 to 6
                likelihood,
                x_hat,
                sigma,
                step_size=self.learning_rate * decay,
                num_steps=self.langevin_steps,
                generator=generator,
                weight=weight,
            )
            finite = per_item(x_0.isfinite().flatten(1).all(1), x_0) > 0
            x_0 = torch.where(finite, x_0, 0.0)
            alpha = (1 + sigma**2) ** -0.5  # a Step has the variance-preserving scale
            yield Step(i, self.num_steps, prior.schedule.nearest(sigma), alpha * x_t, x_0)
            if sigma_next > 0:
                x_t = x_0 + sigma_next * randn_like(x_0, generator)  # line 7
        return x_0

    def _flow(self, prior: Prior, x: Tensor, sigma: float) -> Tensor:
        """Integrates dx/dsigma = (x - D(x, sigma)) / sigma from ``sigma`` to 0 by Euler's method.

        The step to 0 is D itself.
        """
        levels = [*karras_levels(sigma, self.ode_sigma_min, self.ode_steps, self.rho), 0.0]
        for high, low in pairwise(levels):
            x_0 = prior.denoiser(x, x.new_full((), high))
            x = torch.lerp(x_0, x, low / high)
        return x
