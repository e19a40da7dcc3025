"""DInG: Decoupled Inpainting Guidance (arXiv 2512.18365), for any linear operator.

The likelihood of y given x_s wants D_s(x_s), and its gradient a vector-Jacobian product. DInG
takes the noise that the denoiser would find in x_s from a proxy z_s instead, drawn beside x_s from
the prior's own transition. What is left is linear in x_s:

    z_s ~ N(m, v I),      m = alpha_s D_t(x_t) + sqrt(sigma_s^2 - v) eps_t(x_t)          DDIM
    x_s ~ N(m, v I) g,    g = N(alpha_s y + sigma_s A eps_s(z_s); A x_s, (alpha_s sigma_y)^2 I)

The second draw is exact. The paper observes entries (inpainting, there in the space of an
autoencoder). Ours is the same draw for every linear A, made by perturbing and solving: with x
drawn from N(m, v I) and b from the observation's noise, x + A^T (A A^T + rho I)^-1 (b - A x),
rho = (alpha_s sigma_y)^2 / v. For the plain sum of K sources that is inpainting of one coordinate,
their mean, after a rotation of the source axis: every source takes an equal share of the residual.

The paper's v is ``decaying``, sqrt(v) = sigma_s (1 - alpha_s), on the straight-line schedule of a
flow (alpha = 1 - sigma). The residual is followed in the share v / (v + (alpha_s sigma_y)^2), and
on a variance-preserving schedule this v falls as sigma_s^6: y is let go of early. ``bridge`` is the
variance of q(x_s | x_0, x_t), DDIM's at eta = 1.

The last step goes to level 0 and is D itself: 2 N - 1 denoiser calls, none with a gradient.

The equations are those of the authors' published code, which a summary of the paper agrees with;
the paper's own text was not at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from mgdm_audio.diffusion import Prior, bridge
from mgdm_audio.measurement import GaussianLikelihood, LinearOperator
from mgdm_audio.ranges import Count
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise


@dataclass(frozen=True)
class DInG(Stepwise):
    """Needs a LinearOperator and a Gaussian likelihood."""

    num_steps: Count = 25  # N
    noise: Literal["decaying", "bridge"] = "decaying"  # v; the paper's eta_s^2

    needs = Needs(operator=LinearOperator, gaussian=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """``x_0: [batch, *event]`` given ``likelihood.y``."""
        operator: LinearOperator = likelihood.operator  # type: ignore[assignment]
        grid = prior.schedule.timesteps(self.num_steps + 1)[::-1]
        x_t = x_T
        for i, (t, s) in enumerate(pairwise(grid)):
            x_0 = prior.predict_x0(x_t, t)
            if s == 0:
                x_t = x_0
            else:
                mean, std = self._transition(prior, x_0, x_t, s, t)
                z_s = mean + std * randn_like(mean, generator)
                eps = prior.predict_eps(z_s, s)
                x_t = self._posterior(prior, operator, likelihood, mean, std, eps, s, generator)
            yield Step(i, self.num_steps, s, x_t, x_0)
        return x_t

    def _transition(
        self, prior: Prior, x_0: Tensor, x_t: Tensor, s: int, t: int
    ) -> tuple[Tensor, float]:
        """m and sqrt(v) of the prior's transition from level t to s."""
        alpha_s, alpha_t = (float(prior.schedule.alpha[i]) for i in (s, t))
        sigma_s, sigma_t = (float(prior.schedule.sigma[i]) for i in (s, t))
        if self.noise == "bridge":
            std = float(bridge(prior.schedule, 0, s, t).std)
        else:
            std = sigma_s**3 / (1 + alpha_s)  # sigma (1 - alpha), all digits kept
        c_t = (sigma_s**2 - std**2) ** 0.5 / sigma_t
        return (alpha_s - c_t * alpha_t) * x_0 + c_t * x_t, std

    def _posterior(
        self,
        prior: Prior,
        operator: LinearOperator,
        likelihood: GaussianLikelihood,
        mean: Tensor,
        std: float,
        eps: Tensor,
        s: int,
        generator: Generators,
    ) -> Tensor:
        """A draw of x_s from N(mean, std^2 I) given y, the noise of x_s being taken for ``eps``."""
        alpha, sigma = float(prior.schedule.alpha[s]), float(prior.schedule.sigma[s])
        noise_std = alpha * likelihood.noise_std
        x_s = mean + std * randn_like(mean, generator)
        seen = alpha * likelihood.y + noise_std * randn_like(likelihood.y, generator)
        residual = seen - operator(x_s - sigma * eps)
        return x_s + operator.damped_pinv(residual, (noise_std / std) ** 2)
