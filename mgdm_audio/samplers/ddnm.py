"""DDNM: Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model (arXiv 2212.00490).

The denoised estimate is corrected in the row space of A and keeps its null-space component:

    DDNM   x_c = D(x_t) + A^+ (y - A D(x_t))
    DDNM+  x_c = D(x_t) + V Lambda V^T A^+ (y - A D(x_t)),  noise covariance V Gamma V^T

DDNM (section 3.2) treats y as noiseless, so A x_0 = y. In DDNM+ (section 3.3, Appendix I) the noise
of y in the step's mean c_0 x_c + c_t x_t replaces a part of the noise that the step draws: for
every singular value nu of A

    (c_0 lambda sigma_y / nu)^2 + gamma = std^2,    with the largest possible lambda <= 1

so that the step keeps the marginal of the forward process. The coefficients c_0, c_t, std are
DDIM's; at eta = 1 they are the paper's a_t, b_t, sigma_t. The last step draws no noise, so lambda
is 0 there and DDNM+ returns D. The published code of DDNM+ is another recursion, without x_t in the
row space: DDRM with eta_b = 1. Time travel is not implemented.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior, bridge, sample_bridge
from mgdm_audio.measurement import GaussianLikelihood, LinearOperator, SpectralOperator
from mgdm_audio.ranges import Share, at_least
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise


@dataclass(frozen=True)
class DDNM(Stepwise):
    """Samples by the null-space model; DDNM+ needs a SpectralOperator, DDNM a LinearOperator."""

    num_steps: Annotated[int, at_least(2)] = 1000  # T, points of the grid
    eta: Share = 0.85  # DDIM's stochasticity
    plus: bool = True  # DDNM+; False: DDNM, which treats y as noiseless

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plus and self.eta == 0:
            raise ValueError("eta = 0 leaves no noise for that of y; give eta > 0 or plus = false")

    @property
    def needs(self) -> Needs:
        if self.plus:
            return Needs(operator=SpectralOperator, gaussian=True, case="+")
        return Needs(operator=LinearOperator, gaussian=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` by Algorithm 1, in ``num_steps - 1`` denoiser calls."""
        step = self._step_plus if self.plus else self._step
        grid = prior.schedule.timesteps(self.num_steps)[::-1]
        x = x_T
        for index, (t, s) in enumerate(pairwise(grid)):
            x, x_0 = step(prior, likelihood, x, t, s, generator)
            yield Step(index, len(grid) - 1, s, x, x_0)
        return x

    def _step(
        self,
        prior: Prior,
        likelihood: GaussianLikelihood,
        x: Tensor,
        t: int,
        s: int,
        generator: Generators,
    ) -> tuple[Tensor, Tensor]:
        """Returns x_s and x_c of DDNM; at s = 0 both are x_c."""
        x_0 = prior.predict_x0(x, t)
        x_0 = x_0 + likelihood.operator.pinv(likelihood.residual(x_0))  # type: ignore[attr-defined]
        x = sample_bridge(prior.schedule, x_0, x, 0, s, t, eta=self.eta, generator=generator)
        return x, x_0

    def _step_plus(
        self,
        prior: Prior,
        likelihood: GaussianLikelihood,
        x: Tensor,
        t: int,
        s: int,
        generator: Generators,
    ) -> tuple[Tensor, Tensor]:
        """Returns x_s and x_c of DDNM+."""
        operator, kernel = likelihood.operator, bridge(prior.schedule, 0, s, t, self.eta)
        assert isinstance(operator, SpectralOperator)
        x_0 = prior.predict_x0(x, t)
        z = operator.U_T(likelihood.residual(x_0))
        values = operator.singular_values.to(z)
        share = kernel.c_s * likelihood.noise_std  # c_0 sigma_y
        # lambda / nu, 0 where nu = 0: the null space is not corrected.
        gain = torch.where(values > 0, (1 / values).clamp(max=kernel.std / share), 0.0)
        gamma = (kernel.std**2 - (share * gain) ** 2).clamp(min=0)
        x_0 = x_0 + operator.V(gain * z)
        noise = operator.V(gamma.sqrt() * randn_like(z, generator))
        return kernel.mean(x_0, x) + noise, x_0
