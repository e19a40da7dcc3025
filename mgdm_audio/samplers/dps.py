"""DPS: Diffusion Posterior Sampling for General Noisy Inverse Problems (arXiv 2209.14687).

Algorithm 1 takes an unconditional step, then a gradient step on the estimate's squared residual,

    x_{t-1} = x'_{t-1} - zeta_t grad_{x_t} |y - A(D(x_t))|^2,     zeta_t = zeta' / |y - A(D(x_t))|

The published code omits the square, which halves the step at the same zeta'; this is the paper's
form. The norm is that of every batch item, not of the whole batch. Where it is zero, zeta_t is set
to 0, since the gradient is 0 too and 0 / 0 is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior, sample_bridge
from mgdm_audio.measurement import GaussianLikelihood
from mgdm_audio.ranges import Share, at_least, not_negative
from mgdm_audio.rng import Generators
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise
from mgdm_audio.tensors import inner, per_item


@dataclass(frozen=True)
class DPS(Stepwise):
    """Samples by DPS; needs a Gaussian likelihood with a differentiable operator."""

    num_steps: Annotated[int, at_least(3)] = 1000  # N, points of the grid
    step_size: Annotated[float, not_negative(say="1")] = 1.0  # zeta'
    eta: Share = 1.0  # DDIM's stochasticity; 1: the paper's ancestral step

    needs = Needs(gaussian=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` by Algorithm 1, in ``num_steps - 1`` denoiser calls."""
        grid = prior.schedule.timesteps(self.num_steps)[::-1]
        x = x_T
        steps = list(pairwise(grid[:-1]))  # the last level is denoised without guidance (line 9)
        for index, (t, t_prev) in enumerate(steps):
            x_0, descent = self._guide(prior, likelihood, x, t)
            x = sample_bridge(  # line 6: x'_{t-1}
                prior.schedule, x_0, x, 0, t_prev, t, eta=self.eta, generator=generator
            )
            x = x - descent  # line 7
            yield Step(index, len(steps), t_prev, x, x_0)
        return prior.predict_x0(x, grid[-2])

    def _guide(
        self, prior: Prior, likelihood: GaussianLikelihood, x_t: Tensor, t: int
    ) -> tuple[Tensor, Tensor]:
        """Returns ``D(x_t)`` and ``zeta_t grad |y - A(D(x_t))|^2``, both ``[batch, *event]``."""
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            x_0 = prior.predict_x0(x_t, t)
            residual = likelihood.residual(x_0)
            norm2 = inner(residual, residual)  # the gradient of the sum is that of every item
            gradient = torch.autograd.grad(norm2.sum(), x_t)[0]
        norm = norm2.detach().sqrt()
        zeta = torch.where(norm > 0, self.step_size / norm, 0.0)
        return x_0.detach(), per_item(zeta, gradient) * gradient
