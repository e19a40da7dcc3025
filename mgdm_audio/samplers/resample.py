"""ReSample: latent diffusion with hard data consistency (arXiv 2307.08123), Algorithm 1.

A DDIM chain in latent space, which on every tenth level of the lower two thirds is replaced by

    z_0(y)  =  argmin_z |y - A dec(z)|^2 / 2   from the chain's own estimate of z_0,
    z_t     ~  p(z_t | z'_t, z_0(y))  prop. to  N(z_t; alpha_t z_0(y), (1 - alpha_t^2) I)
                                                N(z_t; z'_t, sigma_t^2 I)

where z'_t is the state of the chain and sigma_t^2 is gamma times the variance of a DDIM step at
eta = 1 ("stochastic resampling", Proposition 1). In the middle third of the levels z_0(y) is fitted
in event space and encoded, x(y) = argmin_x |y - A x|^2 / 2 from dec(z_0); in the lowest third it is
fitted in latent space. The chain ends with a fit in latent space.

The published code adds to Algorithm 1 that z_0 is estimated by ``lookahead`` DDIM steps (0: by the
denoiser), and that every DDIM step is followed by a gradient step like DPS's that does not
differentiate the network (``guidance``; 0: none). Three things differ here:
- The code takes that gradient at (z - (1 - alpha^2) eps) / alpha, which is not an estimate of z_0;
  here it is taken at D(z) = (z - sigma eps) / alpha with eps fixed.
- The fits use Adam without the code's weight decay, which the argmin does not have.
- The fit of each item ends at a mean square residual of sigma_y^2: the argmin would fit the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior, bridge, ddim, sample_bridge
from mgdm_audio.measurement import GaussianLikelihood
from mgdm_audio.ranges import Count, at_least, within
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.adam import Adam
from mgdm_audio.samplers.base import (
    Needs,
    Run,
    Step,
    Stepwise,
    on_latents,
    require_codec,
)
from mgdm_audio.samplers.options import Finite
from mgdm_audio.tensors import inner, per_item

_RANGES = "guidance is finite and not negative, eta lies in [0, 1]"
_GUIDANCE, _ETA = within("[0, 1e6)", _RANGES), within("[0, 1]", _RANGES)


@dataclass(frozen=True)
class ReSample(Stepwise):
    """Samples by hard data consistency and resampling.

    It needs a latent prior and a Gaussian likelihood with a differentiable operator.
    """

    num_steps: Annotated[int, at_least(3)] = 500  # N, points of the grid
    every: Count = 10  # C is the set of its multiples among the grid indices up to 2 N / 3
    gamma: Finite = 40.0  # sigma_t^2 divided by the variance of the DDIM step
    lookahead: Annotated[int, at_least(0)] = 5  # DDIM steps before a fit
    fit_steps: Annotated[int, at_least(0)] = 200  # the most Adam steps of a fit
    event_learning_rate: Finite = 0.01  # of fits in event space
    latent_learning_rate: Finite = 0.005  # of fits in latent space
    guidance: Annotated[float, _GUIDANCE] = 0.5  # weight of the gradient step, times alpha_t^2
    eta: Annotated[float, _ETA] = 1.0  # DDIM's stochasticity

    needs = Needs(gaussian=True, codec=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws the decoded event given ``likelihood.y``: ``[batch, *event]``.

        ``x_T`` and the states of a ``Step`` are latents, ``[batch, *latent]``.
        """
        codec = require_codec(prior, "ReSample")
        on_z, third = on_latents(likelihood, prior), self.num_steps // 3
        schedule, eta = prior.schedule, self.eta
        grid = schedule.timesteps(self.num_steps)[:0:-1]  # t_{N-1} .. t_1
        z = x_T
        for j, (t, t_prev) in enumerate(pairwise(grid)):
            z_0 = prior.predict_x0(z, t)
            z = sample_bridge(schedule, z_0, z, 0, t_prev, t, eta=eta, generator=generator)
            if self.guidance > 0:
                # The gradient of |y - A dec(z_0)|, not squared. With eps fixed d z_0 / d z is
                # 1 / alpha_t, which cancels one alpha_t of alpha_t^2.
                square, gradient = _misfit(on_z, z_0)
                inverse = torch.where(square > 0, square.rsqrt(), 0.0)
                z = z - self.guidance * float(schedule.alpha[t]) * per_item(inverse, z) * gradient
            i = self.num_steps - 1 - j  # t = t_i
            if i <= self.num_steps - third and i % self.every == 0:  # t in C
                if self.lookahead > 0:
                    below = [*grid[j + 1 : j + 1 + self.lookahead], 0]
                    z_0 = ddim(prior, z, below, eta=eta, generator=generator)
                if i >= third:
                    x_0 = codec.decode(z_0)
                    z_0 = codec.encode(self._fit(likelihood, x_0, self.event_learning_rate))
                else:
                    z_0 = self._fit(on_z, z_0, self.latent_learning_rate)
                z = self._resample(prior, z_0, z, t, t_prev, generator)
            yield Step(j, len(grid) - 1, t_prev, z, z_0)
        z_0 = prior.predict_x0(z, grid[-1])
        return codec.decode(self._fit(on_z, z_0, self.latent_learning_rate))

    def _fit(self, likelihood: GaussianLikelihood, x: Tensor, learning_rate: float) -> Tensor:
        """Minimises ``|y - A x|^2 / 2`` from ``x`` (hard data consistency), to the noise level.

        An item that has reached it is frozen, so its result does not depend on the batch.
        """
        x = x.clone()
        adam = Adam(x, learning_rate)
        enough = likelihood.noise_std**2 * likelihood.y[0].numel()
        for step in range(self.fit_steps):
            square, gradient = _misfit(likelihood, x)
            fitted = square <= enough
            if step % 10 == 0 and bool(fitted.all()):  # only sometimes: it waits for the device
                break
            before = x.clone()
            adam.step(gradient)
            x.copy_(torch.where(per_item(fitted, x) > 0, before, x))
        return x

    def _resample(
        self, prior: Prior, z_0: Tensor, z: Tensor, t: int, t_prev: int, generator: Generators
    ) -> Tensor:
        """Draws a state at level ``t_prev`` from the product of two Gaussians (Proposition 1)."""
        alpha, sigma = float(prior.schedule.alpha[t_prev]), float(prior.schedule.sigma[t_prev])
        spread = self.gamma * float(bridge(prior.schedule, 0, t_prev, t).std) ** 2  # sigma_t^2
        share = spread / (spread + sigma**2)
        mean = share * alpha * z_0 + (1 - share) * z
        return mean + share**0.5 * sigma * randn_like(z, generator)


def _misfit(likelihood: GaussianLikelihood, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns ``|y - A x|^2``, ``[batch]``, and the gradient of half of it, shaped like ``x``."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        residual = likelihood.residual(x)
        square = inner(residual, residual)
        gradient = torch.autograd.grad(square.sum() / 2, x)[0]
    return square.detach(), gradient
