"""Wiener guidance: reverse diffusion through the Gaussian conditional of every step.

Not a published sampler. It is MGDM (arXiv 2502.03332, Algorithm 1) with R = 1 and s = t, changed
in two points. Its potential g(y | D(x_t)) = N(y; A D(x_t), sigma_y^2) ignores what the denoiser
does not know; here the potential has that covariance too, N(y; A D(x_t), sigma_y^2 + A C_t A^T).
And with the Gaussian p(x_0 | x_t) ~ N(D(x_t), C_t) beside it, x_0 given y is closed form, so no
gradient is taken:

    x_0 = D(x_t) + C_t A^T (A C_t A^T + sigma_y^2)^-1 (y - A D(x_t))        (*)
    x_{t-1} ~ q(x_{t-1} | x_0) = N(alpha x_0, sigma^2 I)            the paper's forward noising

For the sum of sources and C_t diagonal over (source, frequency bin), (*) is a Wiener filter of the
residual: each source takes the share that its variance bears to the total. The noise is renewed in
full at each level, so an early mistake is forgotten as far as the level allows. One draw is cheap
(``num_steps`` calls); the mean of several estimates E[x_0 | y].
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
    """See the module's docstring. Needs a LinearOperator, and a prior that knows ``covariance``.

    ``amortised`` (for a MixtureSum, stacked with known sources or samples if there are any) lets
    the network see the mixture as well, where it was trained to: C_t and D(x_t) are then those of
    p(x_0 | x_t, y), and (*) only removes what is left of the residual and brings in what is known.
    """

    # Levels, and denoiser calls of a draw.
    num_steps: Annotated[int, within("[1, inf)", "{name} = {value}: at least 1")] = 10
    noise_max: float = 3.0  # sigma / alpha of the first level
    noise_min: float = 2e-3  # and of the last
    rho: float = 4.0  # spacing of the levels between them (Karras et al. 2022, eq. 5)
    covariance: Covariance = "isotropic"  # of C_t; the others need a prior that knows them
    amortised: bool = False  # show the network the mixture as well

    needs = Needs(operator=LinearOperator, gaussian=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.noise_min <= self.noise_max:
            raise ValueError("noise levels: 0 < noise_min <= noise_max")

    def levels(self, prior: Prior) -> list[int]:
        """Indices of ``prior.schedule``, noisiest first."""
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
                "WienerGuidance(amortised) needs a prior trained to see the mixture, "
                f"got {type(prior.denoiser).__name__}"
            )

    def algorithm(
        self, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """A draw [batch, sources, time]; ``x_T``: noise of unit variance scaled to level T."""
        denoiser, levels = prior.denoiser, self.levels(prior)
        if self.amortised:
            denoiser = _given_mixture(denoiser, likelihood)
        # At the top level the signal is negligible beside the noise: scale it to where we start.
        x_t = x_T * float(prior.schedule.sigma[levels[0]] / prior.schedule.sigma[-1])
        for i, t in enumerate(levels):
            noise = per_item(prior.schedule.noise_level[t], x_t)
            z = x_t / per_item(prior.schedule.alpha[t], x_t)
            posterior = posterior_of(denoiser, z, noise, self.covariance)
            given = condition(likelihood.operator, posterior, likelihood.noise_std)
            x_0 = posterior.mean + given.shift(likelihood.residual(posterior.mean))
            deviation = None
            # "isotropic" is no measured variance, "jacobian" costs many calls.
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
    """The denoiser of p(x_0 | x_t, mixture), for a pairing that ``check`` has passed."""
    parts = KnownMixture.of(likelihood.operator)
    assert parts is not None
    given: MixtureDenoiser = denoiser.given(parts.split(likelihood.y)[0])
    return given
