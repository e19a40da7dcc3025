"""PSLD: posterior sampling with latent diffusion (arXiv 2307.00619), Algorithm 2.

DPS through the decoder, plus a second gradient ("gluing") that moves z_0 towards the latent of the
event that satisfies A x = y and otherwise equals the decoded estimate. With z_0 = D(z_t),

    z_{t-1} = DDIM(z_t) - grad_{z_t} ( omega |y - A dec(z_0)| + gamma |z_0 - enc(glued)| )
    glued   = A^+ y + (I - A^+ A) dec(z_0)

- The paper writes A^T in place of A^+; they are equal for operators with orthonormal rows, such as
  a mask. The projector I - A^+ A makes ``glued`` the point nearest to dec(z_0) with A x = y, so A^+
  is the general form. For a sum of K sources A^T = K A^+: with A^T the residual y - A glued would
  be 1 - K times that of dec(z_0), and grow.
- Algorithm 2 has squared norms with step sizes eta_i and gamma_i. As in the published code these
  are omega / (2 |.|) and gamma / (2 |.|), DPS's choice, which gives the norms above without the
  square. A step then does not shrink with the residual, and omega limits how small that becomes.
- The norms are those of each item; the published ones run over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor

from mgdm_audio.diffusion import Codec, Prior, sample_bridge
from mgdm_audio.measurement import Likelihood, LinearOperator
from mgdm_audio.ranges import at_least, within
from mgdm_audio.rng import Generators
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise, require_codec
from mgdm_audio.samplers.options import Shares
from mgdm_audio.tensors import inner

_STEP_SIZES = within("[0, 1e6)", "{names} {are} finite and not negative")


@dataclass(frozen=True)
class PSLD(Stepwise):
    """Samples the posterior of latents; needs a latent prior and a LinearOperator."""

    num_steps: Annotated[int, at_least(3)] = 1000  # N, points of the grid
    omega: Annotated[float, _STEP_SIZES] = 0.1  # eta_i = omega / (2 |y - A dec(z_0)|)
    gamma: Annotated[float, _STEP_SIZES] = 0.1  # gamma_i = gamma / (2 |z_0 - enc(glued)|)
    eta: Shares = 1.0  # DDIM's stochasticity

    needs = Needs(operator=LinearOperator, codec=True)

    def algorithm(
        self, prior: Prior, likelihood: Likelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws the decoded event given ``likelihood.y``: ``[batch, *event]``.

        ``x_T`` and the states of a ``Step`` are latents, ``[batch, *latent]``.
        """
        codec = require_codec(prior, "PSLD")
        operator: LinearOperator = likelihood.operator  # type: ignore[assignment]
        grid = prior.schedule.timesteps(self.num_steps)[:0:-1]  # t_{N-1} .. t_1
        z = x_T
        for index, (t, t_prev) in enumerate(pairwise(grid)):
            z_0, step = self._guidance(prior, codec, operator, likelihood.y, z, t)
            z = sample_bridge(
                prior.schedule, z_0, z, 0, t_prev, t, eta=self.eta, generator=generator
            )
            z = z - step
            yield Step(index, len(grid) - 1, t_prev, z, z_0)
        return codec.decode(prior.predict_x0(z, grid[-1]))

    def _guidance(
        self, prior: Prior, codec: Codec, operator: LinearOperator, y: Tensor, z: Tensor, t: int
    ) -> tuple[Tensor, Tensor]:
        """Returns ``z_0 = D(z)`` and the sum of both gradients: ``[batch, *latent]`` each."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            z_0 = prior.predict_x0(z, t)
            x_0 = codec.decode(z_0)
            loss = self.omega * _norm(y - operator(x_0))
            if self.gamma > 0:
                glued = _Glue.apply(x_0, y, operator)
                loss = loss + self.gamma * _norm(z_0 - codec.encode(glued))
            return z_0.detach(), torch.autograd.grad(loss.sum(), z)[0]


class _Glue(torch.autograd.Function):
    """``x -> A^+ y + (I - A^+ A) x``; its symmetric Jacobian needs no derivative of A^+."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, operator: LinearOperator) -> Tensor:
        ctx.operator = operator
        return x + operator.pinv(y - operator(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (g,) = gradients
        return g - ctx.operator.pinv(ctx.operator(g)), None, None


def _norm(x: Tensor) -> Tensor:
    """Returns ``|x_i|`` for every item: ``[batch]``. The clamp makes its gradient 0 at 0."""
    return inner(x, x).clamp(min=torch.finfo(x.dtype).tiny).sqrt()
