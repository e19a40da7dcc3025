"""Gaussian approximations of p(x_0 | x_t): the mean and covariance that a denoiser implies.

Guidance needs the covariance: each source takes the share v_k / sum_j v_j of the mixture's residual
y - sum_k mean_k, where v_k is its variance, and a denoiser's mean does not determine v_k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mgdm_audio.diffusion.denoiser import Denoiser
from mgdm_audio.diffusion.prior import Prior
from mgdm_audio.diffusion.schedule import Level
from mgdm_audio.errors import PairingError
from mgdm_audio.krylov import square_root
from mgdm_audio.tensors import per_item, send

Covariance = Literal["isotropic", "band", "reported", "jacobian"]
"""The choice of Cov(x_0 | x_t). "isotropic": ``sigma^2 / (1 + sigma^2)`` for every sample. "band":
``sigma^2 s^2 / (sigma^2 + s^2)``, s^2 being the training set's spectrum per source and bin.
"reported": the variance that the network outputs per frame and bin. "jacobian": ``sigma^2 dD/dx``,
exact for an exact denoiser (Tweedie's second-order formula); every product with it costs a
vector-Jacobian product through the network."""

KRYLOV_STEPS = 20  # iterations with a Jacobian for one solve or one square root


class Transform(Protocol):
    """A linear isometry Phi of waveforms; ``synthesis`` is its adjoint and its left inverse."""

    def analysis(self, x: Tensor) -> Tensor:
        """``[batch, sources, time] -> [batch, sources, frames, bins]``."""
        ...

    def synthesis(self, coefficients: Tensor, time: int) -> Tensor:
        """``[batch, sources, frames, bins] -> [batch, sources, time]``."""
        ...


class Identity:
    """The identity, so that the coefficients are the samples."""

    def analysis(self, x: Tensor) -> Tensor:
        return x

    def synthesis(self, coefficients: Tensor, time: int) -> Tensor:
        return coefficients


@dataclass(frozen=True)
class Posterior:
    """Approximates ``p(x_0 | x_t)`` by ``N(mean, C)``, ``C = Phi^T diag(variance) Phi``.

    ``mean: [batch, *event]``; ``variance`` is that of the transform's coefficients and broadcasts
    over them. ``separable``: Phi is the same transform of each source, so it commutes with mixing.
    """

    mean: Tensor
    variance: Tensor
    transform: Transform
    separable: bool = True

    def covariance_product(self, x: Tensor) -> Tensor:
        """Returns ``C x``: ``[batch, *event]``."""
        return self._scaled(self.variance, x)

    def root(self, x: Tensor) -> Tensor:
        """Returns ``C^(1/2) x``: for white noise x, a draw of x_0 minus its mean."""
        return self._scaled(self.variance.sqrt(), x)

    def _scaled(self, factor: Tensor, x: Tensor) -> Tensor:
        return self.transform.synthesis(factor * self.transform.analysis(x), x.shape[-1])


@dataclass(frozen=True)
class JacobianPosterior:
    """Approximates ``p(x_0 | x_t)`` by ``N(mean, sigma^2 dD/dx)``, with vector-Jacobian products.

    The Jacobian of an exact denoiser is symmetric and positive; that of a trained network is
    neither, so conditioning may raise ``PairingError``. Keeps the network's activations in memory.
    """

    mean: Tensor  # [batch, *event], without a graph
    x: Tensor  # the input, on which ``output`` depends
    output: Tensor  # D(x), with its graph
    sigma: Tensor  # [] or [batch]
    separable: bool = False

    def covariance_product(self, x: Tensor) -> Tensor:
        """Returns ``C x``, by one vector-Jacobian product: ``[batch, *event]``."""
        with torch.enable_grad():
            product = torch.autograd.grad(self.output, self.x, x, retain_graph=True)[0]
        return per_item(self.sigma**2, x) * product

    def root(self, x: Tensor) -> Tensor:
        return square_root(self.covariance_product, x, KRYLOV_STEPS)


GaussianPosterior = Posterior | JacobianPosterior


class MixtureNetwork(Protocol):
    """The methods that ``MixtureDenoiser`` needs of a network: see ``networks/tf_unet.py``."""

    def __call__(self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None) -> Tensor: ...
    def posterior(
        self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None
    ) -> tuple[Tensor, Tensor]: ...
    def band_variance(self, sigma: Tensor) -> Tensor: ...
    def analysis(self, x: Tensor) -> Tensor: ...
    def synthesis(self, coefficients: Tensor, time: int) -> Tensor: ...


class MixtureDenoiser:
    """Denoises with a network that can be conditioned on the mixture y.

    ``D(x, sigma) = E[x_0 | x]`` is the unconditional prior; ``.given(y)(x, sigma) = E[x_0 | x, y]``
    is an amortised posterior with the same weights, trained without y in a share of the examples.
    """

    def __init__(
        self,
        network: MixtureNetwork,
        mixture: Tensor | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.network, self.mixture, self.calibration = network, mixture, calibration

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.network(x, sigma, self.mixture)

    def given(self, mixture: Tensor) -> MixtureDenoiser:
        """Returns the denoiser of ``p(x_0 | y)``; ``mixture: [batch, 1, time]``."""
        return MixtureDenoiser(self.network, mixture, self.calibration)

    def posterior(self, x: Tensor, sigma: Tensor, covariance: Covariance) -> GaussianPosterior:
        """Returns mean and covariance of x_0 given ``x: [batch, sources, time]`` (and y)."""
        if covariance in ("isotropic", "jacobian"):
            return posterior_of(self, x, sigma, covariance)
        mean, variance = self.network.posterior(x, sigma, self.mixture)
        if covariance == "band":
            variance = self.network.band_variance(sigma)
        elif self.calibration is not None:
            given = self.mixture is not None
            variance = self.calibration(variance, self.reference(sigma), sigma.to(x), given)
        return Posterior(mean, variance, self.network)

    def reference(self, sigma: Tensor) -> Tensor:
        """Returns m of ``Calibration``: ``[batch or 1, sources, 1, 1]``."""
        return self.network.band_variance(sigma).mean((2, 3), keepdim=True)


def isotropic(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> Posterior:
    """Returns the posterior of any denoiser with variance ``sigma^2 / (1 + sigma^2)`` everywhere.

    This is the covariance under a Gaussian prior of unit variance, PGDM's choice (ICLR 2023,
    section 3.2).
    """
    level = sigma.to(x).reshape(-1, *[1] * (x.ndim - 1)) ** 2
    return Posterior(denoiser(x, sigma), level / (1 + level), Identity())


def jacobian(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> JacobianPosterior:
    """Returns the posterior of any denoiser by its Jacobian.

    ``mean`` has a graph where gradients are enabled.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        output = denoiser(x, sigma)
    return JacobianPosterior(output if graph else output.detach(), x, output, sigma)


def posterior_of(
    denoiser: Denoiser, x: Tensor, sigma: Tensor, covariance: Covariance
) -> GaussianPosterior:
    """Returns mean and covariance of ``x_0`` given ``x_0 + sigma eps = x: [batch, *event]``.

    Raises ``PairingError`` for "band" or "reported" where the denoiser does not report them.
    """
    if covariance == "isotropic":
        return isotropic(denoiser, x, sigma)
    if covariance == "jacobian":
        return jacobian(denoiser, x, sigma)
    report: Any = getattr(denoiser, "posterior", None)
    if report is None:
        raise PairingError(
            f"covariance={covariance!r} needs a prior that reports it, got "
            f"{type(denoiser).__name__}; use covariance=isotropic"
        )
    posterior: Posterior = report(x, sigma, covariance)
    return posterior


def predict_posterior(
    prior: Prior, x_t: Tensor, t: Level, covariance: Covariance
) -> GaussianPosterior:
    """Returns ``posterior_of`` for ``x_t = alpha_t x_0 + sigma_t eps`` at a level ``t >= 1``."""
    noise = send(prior.schedule.noise_level[t].to(x_t.dtype), x_t.device)
    alpha = per_item(prior.schedule.alpha[t], x_t)
    return posterior_of(prior.denoiser, x_t / alpha, noise, covariance)


MODES = ("prior", "given")  # without the mixture, and with it


@dataclass(frozen=True)
class Calibration:
    """Corrects a reported variance v to ``v' = f v (v / m)^e``, fitted on held-out data.

    m is a reference: the mean over bins of the residual variance of "band" (``Covariance``).
    ``factors`` f and ``exponents`` e: ``[2, levels, sources]``, without and with the mixture, at
    ascending noise levels ``sigmas: [levels]``; between these log f and e are linear in log sigma,
    beyond them constant. e > -1, so that v' rises with v. Raises ``ValueError`` for other shapes or
    values.
    """

    sigmas: Tensor
    factors: Tensor
    exponents: Tensor

    def __post_init__(self) -> None:
        levels = len(self.sigmas)
        if self.sigmas.ndim != 1 or levels < 1 or not bool((self.sigmas.diff() > 0).all()):
            raise ValueError("calibration: sigmas must rise")
        if self.factors.ndim != 3 or self.factors.shape[:2] != (2, levels):
            raise ValueError(f"calibration: factors are [2, {levels}, sources]")
        if self.exponents.shape != self.factors.shape or not bool((self.exponents > -1).all()):
            raise ValueError("calibration: give an exponent above -1 for each factor")
        if not bool((self.factors > 0).all() and (self.sigmas > 0).all()):
            raise ValueError("calibration: sigmas and factors must be above 0")
        if not all(bool(x.isfinite().all()) for x in (self.sigmas, self.factors, self.exponents)):
            raise ValueError("calibration: sigmas, factors and exponents are finite")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Calibration:
        """Inverts ``to_config``. Raises ``KeyError`` where a part is missing."""
        factors, exponents = (
            torch.tensor([config[key][mode] for mode in MODES]) for key in ("factors", "exponents")
        )
        return cls(torch.tensor(config["sigmas"]), factors, exponents)

    def to_config(self) -> dict[str, Any]:
        """Returns JSON values; factors and exponents are nested by mode, level and source."""
        return {
            "sigmas": self.sigmas.tolist(),
            "factors": dict(zip(MODES, self.factors.tolist(), strict=True)),
            "exponents": dict(zip(MODES, self.exponents.tolist(), strict=True)),
        }

    def at(self, sigma: Tensor, given: bool) -> tuple[Tensor, Tensor]:
        """Returns f and e at ``sigma: []`` or ``[batch]``, each ``[batch or 1, sources]``."""
        own = (self.sigmas.log(), self.factors[int(given)].log(), self.exponents[int(given)])
        levels, factors, exponents = (send(x.to(sigma.dtype), sigma.device) for x in own)
        at = sigma.reshape(-1).log()
        if len(levels) == 1:
            return factors.exp().expand(len(at), -1), exponents.expand(len(at), -1)
        high = torch.searchsorted(levels, at).clamp(1, len(levels) - 1)
        share = ((at - levels[high - 1]) / (levels[high] - levels[high - 1])).clamp(0, 1)[:, None]
        between = [torch.lerp(x[high - 1], x[high], share) for x in (factors, exponents)]
        return between[0].exp(), between[1]

    def __call__(self, variance: Tensor, reference: Tensor, sigma: Tensor, given: bool) -> Tensor:
        """Returns v' of ``variance`` v; ``given``: whether the network was given the mixture.

        ``variance: [batch, sources, frames, bins]``; ``reference`` m: ``[.., sources, 1, 1]``.
        """
        factor, exponent = (x[:, :, None, None] for x in self.at(sigma, given))
        return factor * variance * (variance / reference) ** exponent

    def after(self, earlier: Calibration) -> Calibration:
        """Returns the correction by ``earlier`` and then this one, exact at this one's levels."""
        pairs = [earlier.at(self.sigmas, given) for given in (False, True)]
        factors, exponents = (torch.stack(x) for x in zip(*pairs, strict=True))
        joint = self.factors * factors ** (1 + self.exponents)
        power = (1 + self.exponents) * (1 + exponents)
        return Calibration(self.sigmas, joint, power - 1)
