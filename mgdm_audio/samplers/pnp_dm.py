"""PnP-DM: diffusion models as plug-and-play priors (arXiv 2405.18782), Algorithm 1.

A split Gibbs sampler of x and a copy z, coupled by N(z; x, rho_k^2 I) with an annealed rho_k:

    z ~ g(y | z) N(z; x, rho_k^2 I)          likelihood step
    x ~ p(x) N(z; x, rho_k^2 I)              prior step: p(x_0 | x_0 + rho_k eps = z)

Likelihood step. ``exact`` (linear A) draws from the Gaussian of precision A^T A / sigma_y^2 +
I / rho_k^2 by perturb and solve. ``langevin`` (any A) starts at x with the paper's coupling term
- (h / rho_k^2) (z - x), while the published code has the other sign and always uses the first rho.

Prior step. It is Euler's method on the reverse SDE in sigma^2 (Algorithm 2, variance exploding);
the last step, to 0, is D without noise. It starts at sigma = rho_k, as in the paper; the published
code starts at the next lower level of its grid, whose lowest is sigma = .02: at rho_min = .001
(audio) its last 40 of 99 iterations call no denoiser. Here the lowest level is ``sigma_min`` (or
the prior's lowest, if higher), which must lie below rho_min, so every iteration has a call at rho_k
and, on audio, at seven levels below it. This makes 4547 calls; the published code makes 2670.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior
from mgdm_audio.measurement import GaussianLikelihood, LinearOperator
from mgdm_audio.ranges import Count, Positive, at_least, within
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise
from mgdm_audio.samplers.langevin import langevin

_RHO = "give 0 < rho_min <= rho_start, and rho_decay in (0, 1]"
_DECAY = within("(0, 1]", _RHO)


@dataclass(frozen=True)
class PnPDM(Stepwise):
    """Samples by split Gibbs; ``exact`` needs a LinearOperator, ``langevin`` only a gradient."""

    num_steps: Count = 99  # K, iterations
    rho_start: float = 10.0  # rho_0
    rho_decay: Annotated[float, _DECAY] = 0.9  # alpha, rho_k = max(rho_0 alpha^k, rho_min)
    rho_min: float = 1e-3  # the smallest rho_k
    likelihood_step: Literal["exact", "langevin"] = "exact"  # how z is drawn
    langevin_steps: Count = 100  # J
    step_size: Positive = 1e-9  # gamma, Langevin's
    denoise_steps: Annotated[int, at_least(2)] = 99  # points of the reverse SDE's grid, log-spaced
    sigma_max: float = 100.0  # the grid's highest level, or the prior's where that is lower
    sigma_min: float = 5e-4  # the grid's lowest level, or the prior's where that is higher

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rho_min <= self.rho_start < float("inf"):
            raise ValueError(_RHO)
        if not 0 < self.sigma_min < min(self.rho_min, self.sigma_max):
            raise ValueError("sigma_min: give a level below rho_min and sigma_max")

    @property
    def needs(self) -> Needs:
        if self.likelihood_step == "langevin":
            return Needs()
        return Needs(operator=LinearOperator, gaussian=True, case="(exact)")

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` given ``likelihood.y`` by Algorithm 1."""
        x, grid = x_T, self._grid(prior)
        for k in range(self.num_steps):
            rho = max(self.rho_start * self.rho_decay**k, self.rho_min)
            z = self._likelihood_step(likelihood, x, rho, generator)  # line 3
            x = self._prior_step(prior, z, rho, grid, generator)  # line 4
            alpha = (1 + rho**2) ** -0.5  # a Step has the variance-preserving scale
            yield Step(k, self.num_steps, prior.schedule.nearest(rho), alpha * z, x)
        return x

    def _likelihood_step(
        self, likelihood: GaussianLikelihood, x: Tensor, rho: float, generator: Generators
    ) -> Tensor:
        """Draws ``z ~ g(y | z) N(z; x, rho^2 I)``: section 3.1, for linear or general A."""
        if self.likelihood_step == "langevin":
            return langevin(
                likelihood,
                x,
                rho,
                step_size=self.step_size,
                num_steps=self.langevin_steps,
                generator=generator,
            )
        operator: LinearOperator = likelihood.operator  # type: ignore[assignment]
        z = x + rho * randn_like(x, generator)
        noise = likelihood.noise_std * randn_like(likelihood.y, generator)
        residual = likelihood.residual(z) + noise
        return z + operator.damped_pinv(residual, (likelihood.noise_std / rho) ** 2)

    def _prior_step(
        self, prior: Prior, x: Tensor, rho: float, grid: list[float], generator: Generators
    ) -> Tensor:
        """Draws ``x ~ p(x_0 | x_0 + rho eps = z)`` by Algorithm 2, from ``x`` = z."""
        for high, low in pairwise([rho, *(sigma for sigma in grid if sigma < rho), 0.0]):
            x_0 = prior.denoiser(x, x.new_full((), high))
            if low == 0:
                return x_0
            # dx = (x - D) / sigma^2 d(sigma^2) + dw, backward from high^2 to low^2.
            x = torch.lerp(x_0, x, (low / high) ** 2)
            x.add_(randn_like(x, generator), alpha=(high**2 - low**2) ** 0.5)
        return x

    def _grid(self, prior: Prior) -> list[float]:
        """Returns the levels of the reverse SDE, descending and log-spaced."""
        levels = prior.schedule.noise_level
        high = min(self.sigma_max, float(levels[-1]))
        low = max(self.sigma_min, float(levels[1]))
        n = self.denoise_steps
        return [high * (low / high) ** (i / (n - 1)) for i in range(n)]
