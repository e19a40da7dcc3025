"""MGDM with the denoiser's covariance in its likelihood; this sampler has not been published.

It is ``MGDM`` (arXiv 2502.03332) with the likelihood

    N(y; A D_s(x_s), sigma_y^2 I + A C_s A^T),        C_s = Cov(x_0 | x_s)

in place of the paper's g(y | D_s(x_s)), which lacks A C_s A^T: its Gibbs chain has another target
than the posterior, which more sweeps do not correct. C_s also gives the denoiser's Jacobian,
dD_s/dx_s = (alpha_s / sigma_s^2) C_s (Tweedie), so that (a) is Gaussian conditioning without a
gradient (``gauss_step = "exact"``), exact where D_s is linear. With ``project`` the result is a
draw of x_0 given x_s and y, while the paper's last x_0 is drawn given x_s alone; without a
covariance it projects that x_0 onto A x_0 = y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from mgdm_audio.conditioning import condition_clean, condition_state, covariant_score
from mgdm_audio.diffusion import Level, Prior, bridge
from mgdm_audio.diffusion.posterior import Covariance
from mgdm_audio.measurement import LinearOperator
from mgdm_audio.rng import Generators
from mgdm_audio.samplers.base import Needs, likelihood_score
from mgdm_audio.samplers.mgdm import MGDM


@dataclass(frozen=True)
class CovarianceMGDM(MGDM):
    """Samples by MGDM with the denoiser's covariance in the likelihood.

    It needs a LinearOperator, a Gaussian likelihood and a prior that reports ``covariance``.
    """

    covariance: Literal["none"] | Covariance = "isotropic"  # C_s; "none": the paper's likelihood
    gauss_step: Literal["variational", "exact"] = "exact"  # how (a) is drawn
    project: bool = False  # return a draw of x_0 given x_s and y

    needs = Needs(operator=LinearOperator, gaussian=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gauss_step == "exact" and self.covariance == "none":
            raise ValueError("gauss_step = 'exact' needs a covariance, say covariance = 'band'")

    def _fit_and_draw(
        self, prior: Prior, likelihood: Any, x_0: Tensor, x_t: Tensor, s: Tensor, t: int,
        k: int, generator: Generators,
    ) -> Tensor:  # fmt: skip
        """Draws conditional (a), if exact with D_s linearised at a draw from q(x_s | x_0, x_t)."""
        if self.gauss_step == "variational" or self.covariance == "none":
            return super()._fit_and_draw(prior, likelihood, x_0, x_t, s, t, k, generator)
        kernel = bridge(prior.schedule, 0, s, t)
        mean = kernel.mean(x_0, x_t)
        return condition_state(
            prior, likelihood, mean, kernel.std, s, self.covariance, generator=generator
        )

    def _score(self, prior: Prior, likelihood: Any, x_t: Tensor, t: Level) -> Tensor:
        if self.covariance == "none":
            return likelihood_score(prior, likelihood, x_t, t)
        return covariant_score(prior, likelihood, x_t, t, self.covariance)

    def _end(
        self, prior: Prior, likelihood: Any, last: tuple[Tensor, ...], generator: Generators
    ) -> Tensor:
        x_0, x_s, s = last
        if not self.project:
            return x_0
        return condition_clean(prior, likelihood, x_0, x_s, s, self.covariance, generator=generator)
