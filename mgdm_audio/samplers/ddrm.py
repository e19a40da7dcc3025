"""DDRM: Denoising Diffusion Restoration Models (arXiv 2201.11793), section 3.2.

The states are in the coordinates of A = U S V^T, on the variance-exploding scale. With
z = V^T x_t / alpha_t at the noise level sigma, f = V^T D(x_t) and ybar = S^+ U^T y, whose noise is
sigma_y / s, the state at the next level sigma' is, for every singular value s,

    s = 0:                f + sqrt(1 - eta^2) sigma' (z - f) / sigma             + eta sigma' xi
    sigma' < sigma_y / s: f + sqrt(1 - eta^2) sigma' (ybar - f) / (sigma_y / s)  + eta sigma' xi
    sigma' >= sigma_y / s: (1 - eta_b) f + eta_b ybar + sqrt(sigma'^2 - (eta_b sigma_y / s)^2) xi

each of which is N(x_0, sigma'^2) if f is x_0. The paper takes 20 steps; the default here is the
grid of the other samplers. Where the first sigma is below sigma_y / s, which the paper excludes,
the initial state is that of s = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior
from mgdm_audio.measurement import GaussianLikelihood, SpectralOperator
from mgdm_audio.ranges import at_least
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise
from mgdm_audio.samplers.options import Shares


@dataclass(frozen=True)
class DDRM(Stepwise):
    """Samples by denoising diffusion restoration; needs a SpectralOperator."""

    num_steps: Annotated[int, at_least(2)] = 1000  # points of the grid
    eta: Shares = 0.85  # eta, where s = 0 or the noise sigma_y / s is above sigma'
    eta_b: Shares = 1.0  # eta_b, where the noise sigma_y / s is at most sigma'

    needs = Needs(operator=SpectralOperator, gaussian=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` in ``num_steps - 1`` denoiser calls from noise ``x_T``."""
        operator: SpectralOperator = likelihood.operator  # type: ignore[assignment]
        schedule = prior.schedule
        grid = schedule.timesteps(self.num_steps)[::-1]
        xi = operator.V_T(x_T / float(schedule.sigma[-1]))
        s = operator.singular_values.to(xi)
        y_std = likelihood.noise_std / s  # of ybar; inf where s = 0
        ybar = torch.where(s > 0, operator.U_T(likelihood.y) / s, 0.0)

        sigma = float(schedule.noise_level[grid[0]])  # q(x_T | y)
        z = ybar + (sigma**2 - y_std**2).clamp(min=0).sqrt() * xi
        z = torch.where(y_std < sigma, z, sigma * xi)
        x = float(schedule.alpha[grid[0]]) * operator.V(z)
        for index, (t, t_next) in enumerate(pairwise(grid)):
            x_0 = prior.predict_x0(x, t)
            sigma, sigma_next = (float(schedule.noise_level[level]) for level in (t, t_next))
            to_z, to_y, std = self._weights(y_std, sigma, sigma_next)
            f = operator.V_T(x_0)
            z = f + to_z * (z - f) + to_y * (ybar - f) + std * randn_like(z, generator)
            x = float(schedule.alpha[t_next]) * operator.V(z)
            yield Step(index, len(grid) - 1, t_next, x, x_0)
        return operator.V(z)

    def _weights(
        self, y_std: Tensor, sigma: float, sigma_next: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the weights of z - f and ybar - f and the noise's std, shaped as ``y_std``."""
        keep = (1 - self.eta**2) ** 0.5 * sigma_next
        observed = y_std.isfinite()
        well = y_std <= sigma_next  # implies observed, since sigma_next is finite
        to_z = torch.where(observed, 0.0, torch.full_like(y_std, keep / sigma))
        to_y = torch.where(well, self.eta_b, keep / y_std)  # 0 where y_std is inf
        fresh = (sigma_next**2 - (self.eta_b * y_std) ** 2).clamp(min=0).sqrt()
        return to_z, to_y, torch.where(well, fresh, self.eta * sigma_next)
