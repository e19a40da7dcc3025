"""Wiener guidance: reverse diffusion with Gaussian conditioning on y at every step.

This sampler has not been published. It is MGDM (arXiv 2502.03332, Algorithm 1) with R = 1 and s = t
and two changes. MGDM's likelihood N(y; A D(x_t), sigma_y^2) ignores the covariance C_t of x_0 given
x_t; here it is N(y; A D(x_t), sigma_y^2 + A C_t A^T). And since p(x_0 | x_t) ~ N(D(x_t), C_t) is
Gaussian, the mean of x_0 given y has a closed form, so no gradient is needed:

    x_0 = D(x_t) + C_t A^T (A C_t A^T + sigma_y^2)^-1 (y - A D(x_t))        (*)
    x_{t-1} ~ q(x_{t-1} | x_0) = N(alpha x_0, sigma^2 I)            the paper's forward noising

For a sum of sources and C_t diagonal over (source, frequency bin), (*) is a Wiener filter of the
residual: each source takes the share of its variance in the total variance. The noise is drawn anew
at each level, which lets later levels correct early errors. One draw costs ``num_steps`` calls; the
mean of several draws estimates E[x_0 | y].
"""

from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from mgdm_audio.conditioning import KnownMixture, condition, draw_deviation
from mgdm_audio.diffusion import Prior, karras_levels
from mgdm_audio.diffusion.posterior import Covariance, MixtureDenoiser, posterior_of
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import GaussianLikelihood, LinearOperator, MixtureSum
from mgdm_audio.ranges import within
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.samplers.base import Needs, Run, Step, Stepwise, require
from mgdm_audio.tensors import per_item


@dataclass(frozen=True)
class WienerGuidance(Stepwise):
    """Separates by Wiener guidance; needs a LinearOperator and a prior that reports ``covariance``.

    With ``amortised`` the network, trained for it, gets the mixture as an input: D(x_t) and C_t are
    then those of p(x_0 | x_t, y), and (*) removes the remaining residual. The operator must then be
    a MixtureSum, optionally stacked with known sources or samples.
    """

    # The number of levels, and of denoiser calls per draw.
    num_steps: Annotated[int, within("[1, inf)", "{name} = {value}: at least 1")] = 10
    noise_max: float = 3.0  # sigma / alpha of the first level
    noise_min: float = 2e-3  # sigma / alpha of the last level
    rho: float = 4.0  # spacing of the levels between them (Karras et al. 2022, eq. 5)
    covariance: Covariance = "isotropic"  # C_t; all others need a prior that reports them
    amortised: bool = False  # condition the network on the mixture

    needs = Needs(operator=LinearOperator, gaussian=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.noise_min <= self.noise_max:
            raise ValueError("noise levels: 0 < noise_min <= noise_max")

    def levels(self, prior: Prior) -> list[int]:
        """Returns indices of ``prior.schedule``, descending."""
        noise = karras_levels(self.noise_max, self.noise_min, self.num_steps, self.rho)
        return [prior.schedule.nearest(level) for level in noise]

    def check(self, prior: Prior, likelihood: Any) -> None:
        super().check(prior, likelihood)
        if not self.amortised:
            return
        parts = KnownMixture.of(likelihood.operator)
        if parts is None or parts.mixture is None:
            require(likelihood.operator, MixtureSum, "WienerGuidance(amortised)")
        if not isinstance(prior.denoiser, MixtureDenoiser):
            raise PairingError(
                "WienerGuidance(amortised) needs a prior trained with the mixture as input, "
                f"got {type(prior.denoiser).__name__}"
            )

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``[batch, sources, time]``; ``x_T``: noise of standard deviation sigma_T."""
        denoiser, levels = prior.denoiser, self.levels(prior)
        if self.amortised:
            denoiser = _given_mixture(denoiser, likelihood)
        # At the highest level the signal is negligible, so that noise is scaled to the first level.
        x_t = x_T * float(prior.schedule.sigma[levels[0]] / prior.schedule.sigma[-1])
        for i, t in enumerate(levels):
            noise = per_item(prior.schedule.noise_level[t], x_t)
            z = x_t / per_item(prior.schedule.alpha[t], x_t)
            posterior = posterior_of(denoiser, z, noise, self.covariance)
            given = condition(likelihood.operator, posterior, likelihood.noise_std)
            x_0 = posterior.mean + given.shift(likelihood.residual(posterior.mean))
            deviation = None
            # "isotropic" is not an estimate, and "jacobian" costs many calls.
            if i + 1 == len(levels) and self.covariance in ("band", "reported"):
                deviation = draw_deviation(likelihood, posterior, given, generator)
            yield Step(i, len(levels), t, x_t, x_0, deviation)
            if i + 1 < len(levels):
                alpha, sigma = (
                    v[levels[i + 1]] for v in (prior.schedule.alpha, prior.schedule.sigma)
                )
                x_t = per_item(alpha, x_0) * x_0 + per_item(sigma, x_0) * randn_like(x_0, generator)
        return x_0


def _given_mixture(denoiser: Any, likelihood: GaussianLikelihood) -> MixtureDenoiser:
    """Returns the denoiser of p(x_0 | x_t, mixture), after ``check`` has passed."""
    parts = KnownMixture.of(likelihood.operator)
    assert parts is not None
    given: MixtureDenoiser = denoiser.given(parts.split(likelihood.y)[0])
    return given
