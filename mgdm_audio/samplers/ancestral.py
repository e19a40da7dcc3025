"""Ancestral sampling draws from the prior alone (DDIM, arXiv 2010.02502; DDPM at eta = 1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from torch import Tensor

from mgdm_audio.diffusion import Prior, ddim_step, karras_levels
from mgdm_audio.measurement import Likelihood
from mgdm_audio.ranges import within
from mgdm_audio.rng import Generators
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise

_RANGES = "num_steps is at least 2 and eta lies in [0, 1]"


@dataclass(frozen=True)
class Ancestral(Stepwise):
    """Draws unconditional samples of the prior; a likelihood only sets the batch size.

    Without a likelihood give ``x_T = prior.sample_x_T(batch, generator=...)``.

    With ``noise_max`` the levels are EDM's (arXiv 2206.00364, eq. 5) instead of the schedule's own
    grid, which has few levels at the low noise that determines quiet signals, and x_T is scaled to
    the first level.
    """

    num_steps: Annotated[int, within("[2, inf)", _RANGES)] = 100  # N, points of the grid
    eta: Annotated[float, within("[0, 1]", _RANGES)] = 1.0  # 0: deterministic
    noise_max: float = 0.0  # sigma / alpha of the first level; 0: the schedule's grid
    noise_min: float = 1e-3  # sigma / alpha of the last level before 0
    rho: float = 7.0  # spacing of the levels between them

    needs = Needs(likelihood=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_max and not 0 < self.noise_min < self.noise_max:
            raise ValueError("noise levels: 0 < noise_min < noise_max, or noise_max = 0")

    def levels(self, prior: Prior) -> list[int]:
        """Returns indices of ``prior.schedule``, descending to 0."""
        if not self.noise_max:
            return prior.schedule.timesteps(self.num_steps)[::-1]
        noise = karras_levels(self.noise_max, self.noise_min, self.num_steps - 1, self.rho)
        # Neighbours may have the same nearest level of the table, which is visited once.
        return list(dict.fromkeys([*map(prior.schedule.nearest, noise), 0]))

    def algorithm(
        self, prior: Prior, likelihood: Likelihood | None, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0 ~ p(x_0): [batch, *event]`` in at most ``num_steps - 1`` denoiser calls."""
        x, grid = x_T, self.levels(prior)
        if self.noise_max:
            x = x * float(prior.schedule.sigma[grid[0]] / prior.schedule.sigma[-1])
        for index, (u, t) in enumerate(pairwise(grid)):
            x = ddim_step(prior, x, u, t, eta=self.eta, generator=generator)
            yield Step(index, len(grid) - 1, t, x, x)
        return x
