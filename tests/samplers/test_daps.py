"""DAPS on a Gaussian prior: its ODE has a closed form, and its chain is linear from end to end."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, Prior
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import DAPS
from mgdm_audio.samplers.presets import load_preset

Double = torch.float64


def levels(high: float, low: float, n: int, rho: float = 7.0) -> list[float]:
    u = torch.linspace(0, 1, n, dtype=Double)
    spaced = (high ** (1 / rho) + u * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return [*spaced.tolist(), 0.0]


def test_the_ode_converges_to_the_probability_flow(prior: Prior, covariance: Tensor) -> None:
    """Along an eigenvector of variance c: x_0 = sqrt(c / (c + sigma^2)) x. Euler is of order 1."""
    sigma = 2.0
    c, basis = torch.linalg.eigh(covariance)
    exact = (c / (c + sigma**2)).sqrt()
    errors = []
    for n in (100, 200, 400):
        sampler = DAPS(ode_steps=n, ode_sigma_min=1e-6)
        x_0 = sampler._flow(prior, basis.T.reshape(32, *prior.event_shape), sigma).flatten(1)
        found = x_0 @ basis
        assert float((found - found.diag().diag()).abs().max()) < 1e-12  # every axis on its own
        errors.append(float((found.diag() / exact - 1)[c > 1e-5].abs().max()))
    assert errors[-1] < 0.03
    ratios = [b / a for a, b in pairwise(errors)]
    assert ratios == pytest.approx([0.5, 0.5], abs=0.03)  # half the step, half the error


def flow(c: Tensor, sigma: float, n: int, low: float) -> Tensor:
    """What n Euler steps multiply an eigenvector of variance c by."""
    factor = torch.ones_like(c)
    for u, t in pairwise(levels(sigma, low, n)):
        factor = factor * (1 + (t - u) * u / (c + u**2))
    return factor


def test_its_moments_follow_the_linear_recursion(prior: Prior, covariance: Tensor) -> None:
    """Mean and covariance of the chain: ODE, Langevin at its decaying step, fresh noise."""
    draws, tau = 8000, 0.05
    sampler = DAPS(
        num_steps=3,
        sigma_max=1.0,
        sigma_min=0.05,
        ode_sigma_min=0.01,
        ode_steps=4,
        langevin_steps=6,
        learning_rate=5e-4,
        learning_rate_ratio=0.2,
        tau=tau,
    )
    y = 0.3 * torch.randn(1, 1, 8, generator=generator_for(0), dtype=Double)
    # noise_std has no say: tau takes its place.
    likelihood = GaussianLikelihood(MixtureSum(4), y.expand(draws, -1, -1), 0.7)
    x_0 = sampler.sample(prior, likelihood, generator=generator_for(1)).flatten(1)

    c, basis = torch.linalg.eigh(covariance)
    a = torch.eye(8, dtype=Double).repeat(1, 4)  # the sum of sources as a matrix, [8, 32]
    eye = torch.eye(32, dtype=Double)
    mean, cov = torch.zeros(32, dtype=Double), sampler.sigma_max**2 * eye
    for i, (sigma, sigma_next) in enumerate(pairwise(levels(1.0, 0.05, 3))):
        f = basis @ flow(c, sigma, 4, 0.01).diag() @ basis.T
        mean, cov = f @ mean, f @ cov @ f.T
        h = 5e-4 * (1 - 0.8 * i / 3)
        curvature = a.T @ a / tau**2 + eye / sigma**2
        mode = torch.linalg.solve(curvature, eye / sigma**2)  # of x_hat, beside y's part
        offset = torch.linalg.solve(curvature, a.T @ y.flatten() / tau**2)
        decay = torch.linalg.matrix_power(eye - h * curvature, 6)
        gain = decay + (eye - decay) @ mode
        mean = gain @ mean + (eye - decay) @ offset
        cov = gain @ cov @ gain.T
        for j in range(6):
            power = torch.linalg.matrix_power(eye - h * curvature, j)
            cov = cov + 2 * h * power @ power.T
        if i < 2:
            cov = cov + sigma_next**2 * eye
    # In the eigenbasis of the predicted covariance: 32 means and variances, 4.5 standard errors.
    variance, axes = torch.linalg.eigh(cov)
    z = (x_0 - mean) @ axes
    assert float((z.mean(0) / variance.sqrt()).abs().max()) < 4.5 / draws**0.5
    assert float((z.var(0) / variance - 1).abs().max()) < 4.5 * (2 / draws) ** 0.5
    # And nothing else correlates: 496 correlations.
    correlation = torch.corrcoef(z.T).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 5 / draws**0.5


def test_tau_zero_is_the_likelihood_s_own(prior: Prior, likelihood: GaussianLikelihood) -> None:
    sampler = DAPS(num_steps=5, langevin_steps=5, tau=likelihood.noise_std)
    own = replace(sampler, tau=0.0)
    x, again = (s.sample(prior, likelihood, generator=generator_for(0)) for s in (sampler, own))
    assert torch.equal(x, again)


def test_a_diverged_chain_is_zeroed_for_its_item_alone(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    sampler, y = DAPS(num_steps=4, langevin_steps=5), likelihood.y.clone()
    y[1] = float("nan")
    generators = [generator_for(i) for i in range(3)]
    x = sampler.sample(prior, replace(likelihood, y=y), generator=generators)
    assert bool((x[1] == 0).all())
    clean = sampler.sample(prior, likelihood, generator=[generator_for(i) for i in range(3)])
    torch.testing.assert_close(x[::2], clean[::2], rtol=0, atol=1e-12)
    wild = replace(sampler, learning_rate=1e300)  # a step far beyond 2 / curvature
    assert bool((wild.sample(prior, likelihood, generator=generator_for(0)) == 0).all())


def test_it_costs_what_was_published(prior: Prior, likelihood: GaussianLikelihood) -> None:
    seen: list[float] = []

    class Recorder(CallCounter):
        def __call__(self, x: Tensor, sigma: Tensor, *rest: Any) -> Tensor:
            seen.append(float(sigma))
            return super().__call__(x, sigma, *rest)

    counter = Recorder(prior.denoiser)
    sampler = replace(load_preset("daps").sampler, langevin_steps=1)  # type: ignore[type-var]
    counted = replace(prior, denoiser=counter)
    sampler.sample(counted, replace(likelihood, y=likelihood.y[:1]), generator=generator_for(0))
    assert (counter.forward, counter.gradient) == (1000, 0)
    annealing = levels(20.0, 1e-3, 200)[:-1]
    expected = [s for top in annealing for s in levels(top, 1e-4, 5)[:-1]]
    assert seen == pytest.approx(expected, rel=1e-9)


def test_the_preset_is_the_default() -> None:
    assert load_preset("daps").sampler == DAPS()


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 0},
        {"ode_steps": 0},
        {"langevin_steps": 0},
        {"sigma_min": 30.0},
        {"ode_sigma_min": 0.01},
        {"ode_sigma_min": 0.0},
        {"rho": 0.0},
        {"learning_rate": -1.0},
        {"learning_rate_ratio": 0.0},
        {"tau": -0.1},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"give"):
        DAPS(**options)  # type: ignore[arg-type]
