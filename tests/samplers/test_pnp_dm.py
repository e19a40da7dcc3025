"""PnP-DM on a Gaussian prior: either half of the Gibbs sampler, then the chain."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, NoiseSchedule, Prior
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import (
    GaussianLikelihood,
    KnownSources,
    LinearOperator,
    MixtureSum,
    Operator,
    Stacked,
)
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.samplers import PnPDM, Step, langevin, pnp_dm
from mgdm_audio.samplers.presets import load_preset

Double = torch.float64


class Dense(LinearOperator):
    """A matrix that mixes sources and time, [8, 32], with a null space and no known SVD."""

    matrix = randn((8, 32), generator=generator_for(0, "matrix"), dtype=Double)

    def __call__(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix.to(x).T)[:, None]

    def adjoint(self, y: Tensor) -> Tensor:
        return (y[:, 0] @ self.matrix.to(y)).reshape(-1, 4, 8)


class Cube(Operator):
    def __call__(self, x: Tensor) -> Tensor:
        return x**3


class Silence:
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return 0 * x


def as_matrix(operator: LinearOperator) -> Tensor:
    """[8, 32]"""
    return operator(torch.eye(32, dtype=Double).reshape(32, 4, 8)).flatten(1).T


def normal(*shape: int, seed: int) -> Tensor:
    return randn(shape, generator=generator_for(seed), dtype=Double)


def zeros(x: Tensor, generator: object) -> Tensor:
    return torch.zeros_like(x)


def unit_noise() -> Callable[[Tensor, object], Tensor]:
    """In place of ``randn_like``: item i of all draws together is unit vector i, item 0 is none."""
    drawn = 1

    def draw(x: Tensor, generator: object) -> Tensor:
        nonlocal drawn
        noise, size = torch.zeros_like(x).flatten(1), x[0].numel()
        noise[drawn : drawn + size] = torch.eye(size, dtype=x.dtype)
        drawn += size
        return noise.reshape(x.shape)

    return draw


def conditional(
    a: Tensor, x: Tensor, y: Tensor, noise_std: float, rho: float
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of z ~ N(y; A z, noise_std^2 I) N(z; x, rho^2 I)."""
    covariance = torch.linalg.inv(a.T @ a / noise_std**2 + torch.eye(32, dtype=Double) / rho**2)
    return covariance @ (a.T @ y / noise_std**2 + x / rho**2), covariance


@pytest.mark.parametrize("operator", [MixtureSum(4), MixtureSum(4, [1, -2, 0.5, 0]), Dense()])
@pytest.mark.parametrize(("noise_std", "rho"), [(0.3, 0.2), (0.01, 1.0)])
def test_the_exact_step_is_the_gaussian_conditional(
    operator: LinearOperator, noise_std: float, rho: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """z is affine in the noises drawn: one item without any and one for every unit of them give
    its mean and all columns of its root, hence the moments, without statistics."""
    monkeypatch.setattr(pnp_dm, "randn_like", unit_noise())
    items = 1 + 32 + 8
    x, y = normal(1, 4, 8, seed=1), normal(1, 1, 8, seed=2)
    likelihood = GaussianLikelihood(operator, y.expand(items, -1, -1), noise_std)
    z = PnPDM()._likelihood_step(likelihood, x.expand(items, -1, -1), rho, generator_for(0))
    z = z.flatten(1)
    mean, cov = conditional(as_matrix(operator), x.flatten(), y.flatten(), noise_std, rho)
    root = z[1:] - z[0]
    # The inverse of a matrix of condition up to 6e5, and conjugate gradients to 2e-15.
    torch.testing.assert_close(z[0], mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(root.T @ root, cov, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "operator",
    [
        MixtureSum(4),
        MixtureSum(4, [1, -2, 0.3, 0.7]),
        Dense(),
        Stacked([MixtureSum(4), KnownSources([1], 4)]),
    ],
)
def test_the_exact_step_is_at_home_in_float32(
    operator: LinearOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At audio's first rho the precisions of y and of x differ by 1e10."""
    monkeypatch.setattr(pnp_dm, "randn_like", zeros)
    x = 10 * normal(1, 4, 8, seed=1)
    y = normal(*operator(x).shape, seed=2)
    found = []
    for dtype in (torch.float32, Double):
        likelihood = GaussianLikelihood(operator, y.to(dtype), 1e-4)
        z = PnPDM()._likelihood_step(likelihood, x.to(dtype), 10.0, generator_for(0))
        found.append(z.double())
    # |x| is 30 at most: a few roundings of float32, 2e-6 each, through A^+.
    assert float((found[0] - found[1]).abs().max()) < 2e-5


def test_the_langevin_step_settles_on_the_same_conditional(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without noise it finds the mode, with it the spread. That of the null space is rho, the
    coupling's work alone: with the published sign it would grow without bound."""
    noise_std, rho, step_size, draws = 0.5, 0.3, 0.01, 2000
    sampler = PnPDM(likelihood_step="langevin", step_size=step_size, langevin_steps=150)
    x, y = normal(1, 4, 8, seed=1), normal(1, 1, 8, seed=2)
    mean, _ = conditional(as_matrix(MixtureSum(4)), x.flatten(), y.flatten(), noise_std, rho)

    def step(batch: int) -> Tensor:
        likelihood = GaussianLikelihood(MixtureSum(4), y.expand(batch, -1, -1), noise_std)
        x_0 = x.expand(batch, -1, -1)
        return sampler._likelihood_step(likelihood, x_0, rho, generator_for(3))

    across = (step(draws) - mean.reshape(4, 8)).diff(dim=1) / 2**0.5  # of sources: null space
    with monkeypatch.context() as patch:
        patch.setattr(langevin, "randn_like", zeros)
        # The slowest factor is .89, to the power 150.
        torch.testing.assert_close(step(1).flatten(), mean, rtol=0, atol=1e-6)
    biased = rho**2 / (1 - step_size / rho**2 / 2)
    # 24 means and variances: 4.5 standard errors.
    assert float(across.mean(0).abs().max()) < 4.5 * (biased / draws) ** 0.5
    assert float((across.var(0) / biased - 1).abs().max()) < 4.5 * (2 / draws) ** 0.5


def reverse(
    c: Tensor, rho: float, points: int, low: float = 5e-4, high: float = 20.0
) -> tuple[Tensor, Tensor]:
    """The prior step along eigenvectors of variance c: its factor on z, and its variance."""
    grid = torch.logspace(0, 1, points, base=low / high, dtype=Double) * high
    factor, variance = torch.ones_like(c), torch.zeros_like(c)
    for u, t in pairwise([rho, *grid[grid < rho].tolist(), 0.0]):
        f = 1 - (u**2 - t**2) / (c + u**2)  # d(sigma^2) times the score - x / (c + sigma^2)
        factor, variance = f * factor, f**2 * variance + (u**2 - t**2 if t > 0 else 0)
    return factor, variance


@pytest.mark.parametrize("rho", [0.05, 3.0])
def test_the_prior_step_is_a_draw_of_x_0_given_z(
    prior: Prior, covariance: Tensor, rho: float
) -> None:
    draws, points, sampler = 4000, 40, PnPDM(denoise_steps=40)
    c, basis = torch.linalg.eigh(covariance)
    z = rho * normal(1, 4, 8, seed=1)
    grid = sampler._grid(prior)
    x = sampler._prior_step(prior, z.expand(draws, -1, -1), rho, grid, generator_for(2))
    found, z_c = x.flatten(1) @ basis, z.flatten() @ basis
    factor, variance = reverse(c, rho, points)
    # 32 means and variances: 4.5 standard errors.
    error = (found.mean(0) - factor * z_c) / variance.sqrt()
    assert float(error.abs().max()) < 4.5 / draws**0.5
    assert float((found.var(0) / variance - 1).abs().max()) < 4.5 * (2 / draws) ** 0.5
    # The recursion's limit is the Gaussian posterior N(c z, c rho^2) / (c + rho^2). Its mean is
    # that at any n: (c + t^2) / (c + u^2) a step, which telescopes. Its variance is of order 1.
    exact = c * rho**2 / (c + rho**2)
    errors = []
    for n in (200, 400, 800):
        factor, variance = reverse(c, rho, n, low=1e-5)
        torch.testing.assert_close(factor, c / (c + rho**2), rtol=1e-9, atol=0)
        errors.append(float((variance - exact).abs().max() / exact.max()))
    assert errors[-1] < 0.03
    assert [b / a for a, b in pairwise(errors)] == pytest.approx([0.5, 0.5], abs=0.05)


def test_the_chain_reaches_the_posterior_of_the_split_model(
    prior: Prior, covariance: Tensor
) -> None:
    """Moments of x after the last iteration by the matrix recursion over both steps. In the limit
    of iterations and levels: N(0, C) N(y; A x, sigma_y^2 + rho^2 A A^T), z being summed out."""
    draws, rho, noise_std = 2000, 0.05, 0.02
    sampler = PnPDM(15, rho_start=0.3, rho_decay=0.7, rho_min=rho, denoise_steps=50)
    a, eye = as_matrix(MixtureSum(4)), torch.eye(32, dtype=Double)
    y = 0.2 * normal(1, 1, 8, seed=1)
    likelihood = GaussianLikelihood(MixtureSum(4), y.expand(draws, -1, -1), noise_std)
    steps: list[Step] = []
    x = sampler.sample(prior, likelihood, generator=generator_for(2), on_step=steps.append)
    c, basis = torch.linalg.eigh(covariance)

    def moments(rhos: list[float], points: int) -> tuple[Tensor, Tensor]:
        along = {r: reverse(c, r, points) for r in set(rhos)}
        mean, cov = torch.zeros(32, dtype=Double), float(prior.schedule.sigma[-1]) ** 2 * eye
        for r in rhos:
            offset, spread = conditional(a, 0 * mean, y.flatten(), noise_std, r)
            mean, cov = offset + spread @ mean / r**2, spread + spread @ cov @ spread / r**4
            f, v = (basis @ part.diag() @ basis.T for part in along[r])
            mean, cov = f @ mean, f @ cov @ f.T + v
        return mean, cov

    rhos = [max(0.3 * 0.7**k, rho) for k in range(15)]
    mean, cov = moments(rhos, 50)
    power, axes = torch.linalg.eigh(cov)
    found = (x.flatten(1) - mean) @ axes
    # 32 means and variances: 4.5 standard errors.
    assert float((found.mean(0) / power.sqrt()).abs().max()) < 4.5 / draws**0.5
    assert float((found.var(0) / power - 1).abs().max()) < 4.5 * (2 / draws) ** 0.5
    gain = (
        covariance
        @ a.T
        @ torch.linalg.inv(
            a @ (covariance + rho**2 * eye) @ a.T + noise_std**2 * torch.eye(8, dtype=Double)
        )
    )
    exact_mean, exact_cov = gain @ y.flatten(), covariance - gain @ a @ covariance
    mean, cov = moments([rho] * 500, 400)
    # The slowest direction forgets its start by .9 an iteration; Euler's method is exact for the
    # mean, and on 400 levels .2 % off for the covariance.
    assert float((mean - exact_mean).norm() / exact_mean.norm()) < 1e-9
    assert float((cov - exact_cov).norm() / exact_cov.norm()) < 0.005
    assert torch.equal(steps[-1].x_0, x)
    nearest = prior.schedule.nearest
    assert [step.t for step in steps] == [nearest(r) for r in rhos]


def test_on_audio_every_iteration_calls_the_denoiser() -> None:
    counter, calls = CallCounter(Silence()), [0]
    prior = Prior(counter, NoiseSchedule.karras(), (2, 1))
    likelihood = GaussianLikelihood(MixtureSum(2), torch.zeros(1, 1, 1), 1e-4)
    sampler = replace(load_preset("pnp-dm").sampler, langevin_steps=1)  # type: ignore[type-var]
    sampler.sample(
        prior,
        likelihood,
        generator=generator_for(0),
        on_step=lambda step: calls.append(counter.forward),
    )
    assert min(b - a for a, b in pairwise(calls)) == 8
    assert (counter.forward, counter.gradient) == (4547, 0)


def test_a_prior_that_ends_above_rho_is_called_once() -> None:
    prior = Prior(CallCounter(Silence()), NoiseSchedule.linear(), (2, 1))  # lowest level .01
    x = PnPDM()._prior_step(
        prior, torch.ones(1, 2, 1), 1e-3, PnPDM()._grid(prior), generator_for(0)
    )
    assert (prior.denoiser.forward, x.abs().max()) == (1, 0)  # type: ignore[attr-defined]


def test_the_exact_step_wants_a_linear_operator_and_langevin_does_not(prior: Prior) -> None:
    likelihood = GaussianLikelihood(Cube(), torch.zeros(2, 4, 8, dtype=Double), 0.1)
    with pytest.raises(PairingError, match=r"PnPDM\(exact\) needs a LinearOperator, got Cube"):
        PnPDM(2).sample(prior, likelihood, generator=generator_for(0))
    sampler = PnPDM(2, likelihood_step="langevin")
    assert bool(sampler.sample(prior, likelihood, generator=generator_for(0)).isfinite().all())


def test_the_preset_is_the_default_by_langevin() -> None:
    assert load_preset("pnp-dm").sampler == PnPDM(likelihood_step="langevin")


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 0},
        {"langevin_steps": 0},
        {"denoise_steps": 1},
        {"rho_min": 0.0},
        {"rho_min": 11.0},
        {"rho_decay": 1.1},
        {"sigma_min": 0.02},
        {"sigma_max": 1e-4},
        {"step_size": 0.0},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"give"):
        PnPDM(**options)  # type: ignore[arg-type]
