"""DAPS: Decoupled Annealing Posterior Sampling (arXiv 2407.01521), Algorithm 1.

Down the levels sigma_1 > .. > sigma_N, with x_0 given x_t taken for N(x_hat, sigma_i^2 I):

    x_hat = the probability flow ODE from (x_t, sigma_i) to 0
    x_0   ~ N(x_0; x_hat, sigma_i^2 I) g(y | x_0)           Langevin, started at x_hat
    x_t   = x_0 + sigma_{i+1} xi                            noised afresh: the levels are decoupled

and the last x_0 is the draw. States are variance exploding, x_t = x_0 + sigma xi, as in the paper.

``tau`` takes the place of sigma_y in g: the paper's beta_y, a hyper-parameter of its own because
a Langevin step must stay below 2 / curvature. With K sources summed that is 2 tau^2 / K, which no
useful step meets at sigma_y = 1e-4. A chain that diverged all the same is restarted from zeros, as
in the published code, but there the whole batch is and here the item alone.
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
    """Decoupled annealing; needs nothing of the operator but a gradient. The defaults are audio's.

    ``num_steps * ode_steps`` denoiser calls, none with a gradient.
    """

    num_steps: Count = 200  # N_A, annealing levels
    sigma_max: float = 20.0  # the first of them
    sigma_min: float = 1e-3  # the last
    rho: Positive = 7.0  # spacing of these and of the ODE's (Karras et al. 2022, eq. 5)
    ode_steps: Count = 5  # N_ODE, Euler steps, the last from ode_sigma_min to 0
    ode_sigma_min: float = 1e-4  # the ODE's last level before 0
    langevin_steps: Count = 50  # N
    learning_rate: Positive = 1e-5  # eta_0, Langevin's step at the first level
    learning_rate_ratio: Annotated[float, _RATIO] = 1e-3  # delta, the share of it that it falls to
    tau: Annotated[float, _TAU] = 5e-3  # beta_y, stands for sigma_y; 0: the likelihood's own

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
        """Algorithm 1: a draw of ``x_0: [batch, *event]`` given ``likelihood.y``."""
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
            shrink = (1 + sigma**2) ** -0.5  # to the variance-preserving scale of all samplers
            yield Step(i, self.num_steps, prior.schedule.nearest(sigma), shrink * x_t, x_0)
            if sigma_next > 0:
                x_t = x_0 + sigma_next * randn_like(x_0, generator)  # line 7
        return x_0

    def _flow(self, prior: Prior, x: Tensor, sigma: float) -> Tensor:
        """Euler's method on dx/dsigma = (x - D(x, sigma)) / sigma from ``sigma`` to 0.

        The step to 0 is D itself.
        """
        levels = [*karras_levels(sigma, self.ode_sigma_min, self.ode_steps, self.rho), 0.0]
        for high, low in pairwise(levels):
            x_0 = prior.denoiser(x, x.new_full((), high))
            x = torch.lerp(x_0, x, low / high)
        return x
