"""DInG: Decoupled Inpainting Guidance (arXiv 2512.18365), for any linear operator.

The likelihood of y given x_s needs D_s(x_s), and its gradient a vector-Jacobian product. DInG
replaces eps_s(x_s) by eps_s(z_s), where the proxy z_s is drawn independently of x_s from the
prior's transition. The likelihood is then linear in x_s:

    z_s ~ N(m, v I),      m = alpha_s D_t(x_t) + sqrt(sigma_s^2 - v) eps_t(x_t)          DDIM
    x_s ~ N(m, v I) g,    g = N(alpha_s y + sigma_s A eps_s(z_s); A x_s, (alpha_s sigma_y)^2 I)

The second draw is exact. The paper observes entries (inpainting, there of an autoencoder's
latents). Here the draw is extended to every linear A by perturb and solve: with x ~ N(m, v I) and
b ~ N(alpha_s y + sigma_s A eps_s(z_s), (alpha_s sigma_y)^2 I), it is x + A^T (A A^T + rho I)^-1
(b - A x), rho = (alpha_s sigma_y)^2 / v. For a sum of K sources this is inpainting of one
coordinate, their mean, after a rotation of the source axis: each takes 1 / K of the residual.

The paper's v is ``decaying``, sqrt(v) = sigma_s (1 - alpha_s), for the schedule of a rectified flow
(alpha = 1 - sigma). A step corrects the fraction v / (v + (alpha_s sigma_y)^2) of the residual. On
a variance-preserving schedule this v falls as sigma_s^6, so y soon has no effect. ``bridge`` is the
variance of q(x_s | x_0, x_t), DDIM's at eta = 1.

The last step goes to level 0 and is D itself: 2 N - 1 denoiser calls, none with a gradient.

The equations are those of the authors' published code and agree with a summary of the paper; they
have not been compared with the paper's full text.
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
    """Samples by decoupled guidance; needs a LinearOperator and a Gaussian likelihood."""

    num_steps: Count = 25  # N
    noise: Literal["decaying", "bridge"] = "decaying"  # v; the paper's eta_s^2

    needs = Needs(operator=LinearOperator, gaussian=True)

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` given ``likelihood.y``."""
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
        """Returns m and sqrt(v) of the prior's transition from level t to s."""
        alpha_s, alpha_t = (float(prior.schedule.alpha[i]) for i in (s, t))
        sigma_s, sigma_t = (float(prior.schedule.sigma[i]) for i in (s, t))
        if self.noise == "bridge":
            std = float(bridge(prior.schedule, 0, s, t).std)
        else:
            std = sigma_s**3 / (1 + alpha_s)  # sigma (1 - alpha), without cancellation
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
        """Draws x_s from N(mean, std^2 I) given y, with ``eps`` in place of the noise of x_s."""
        alpha, sigma = float(prior.schedule.alpha[s]), float(prior.schedule.sigma[s])
        noise_std = alpha * likelihood.noise_std
        x_s = mean + std * randn_like(mean, generator)
        observed = alpha * likelihood.y + noise_std * randn_like(likelihood.y, generator)
        residual = observed - operator(x_s - sigma * eps)
        return x_s + operator.damped_pinv(residual, (noise_std / std) ** 2)
