"""Conditioning on a linear observation, each against a dense matrix inverse."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.conditioning import (
    condition,
    condition_clean,
    condition_state,
    covariant_score,
    iterative,
)
from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.diffusion.posterior import predict_posterior
from mgdm_audio.errors import PairingError, UserError
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum, Operator, SourceMatrix
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import CovarianceMGDM

Double = torch.float64
LEVEL = 120  # sigma = .06
COVARIANCES = pytest.mark.parametrize("kind", ["reported", "jacobian"])


def dense(prior: Prior, t: int) -> tuple[Tensor, Tensor]:
    """D_t and Cov(x_0 | x_t) as matrices, from the textbook formulas."""
    c = prior.denoiser.covariance  # type: ignore[attr-defined]
    alpha, sigma = float(prior.schedule.alpha[t]), float(prior.schedule.sigma[t])
    gain = alpha * c @ torch.linalg.inv(alpha**2 * c + sigma**2 * torch.eye(len(c), dtype=Double))
    return gain, c - alpha * gain @ c


def mixing(prior: Prior) -> Tensor:
    sources, time = prior.event_shape
    return torch.kron(torch.ones(1, sources), torch.eye(time)).double()


@COVARIANCES
def test_the_denoiser_s_covariance_is_the_exact_one(prior: Prior, kind: Any) -> None:
    x = torch.randn(3, *prior.event_shape, generator=generator_for(0), dtype=Double)
    posterior = predict_posterior(prior, x, LEVEL, kind)
    gain, c = dense(prior, LEVEL)
    torch.testing.assert_close(posterior.mean.flatten(1), x.flatten(1) @ gain.T, rtol=0, atol=1e-12)
    product = posterior.covariance_product(x).flatten(1)
    torch.testing.assert_close(product, x.flatten(1) @ c.T, rtol=0, atol=1e-12)
    twice = posterior.root(posterior.root(x)).flatten(1)
    # 20 Lanczos steps on 32 eigenvalues that decay.
    torch.testing.assert_close(twice, x.flatten(1) @ c.T, rtol=0, atol=2e-3 * float(twice.std()))


@COVARIANCES
def test_the_score_is_that_of_the_marginal_likelihood(
    prior: Prior, likelihood: GaussianLikelihood, kind: Any
) -> None:
    """For a Gaussian prior p(y | x_t) is N(A D x_t, A C A^T + sigma_y^2 I), with C constant."""
    x = 0.3 * torch.randn(3, *prior.event_shape, generator=generator_for(1), dtype=Double)
    gain, c = dense(prior, LEVEL)
    a = mixing(prior)
    total = a @ c @ a.T + likelihood.noise_std**2 * torch.eye(len(a), dtype=Double)
    residual = likelihood.y.flatten(1) - x.flatten(1) @ (a @ gain).T
    want = residual @ torch.linalg.inv(total) @ a @ gain
    score = covariant_score(prior, likelihood, x, LEVEL, kind).flatten(1)
    # Relative: conjugate gradients on a matrix of condition 1e2.
    torch.testing.assert_close(score, want, rtol=0, atol=1e-8 * float(want.abs().max()))


@COVARIANCES
def test_a_draw_of_the_state_has_the_exact_mean_and_covariance(
    prior: Prior, likelihood: GaussianLikelihood, kind: Any
) -> None:
    """Conditional (a) of MGDM: N(m, v I) times p(y | x_s), a Gaussian known in closed form."""
    n, std = 6000, 0.1
    y = likelihood.y[:1]
    many = GaussianLikelihood(MixtureSum(4), y.expand(n, -1, -1), likelihood.noise_std)
    m = 0.2 * torch.randn(1, *prior.event_shape, generator=generator_for(2), dtype=Double)
    draws = condition_state(
        prior, many, m.expand(n, -1, -1), std, LEVEL, kind, generator=generator_for(3)
    ).flatten(1)
    gain, c = dense(prior, LEVEL)
    a = mixing(prior)
    noise = a @ c @ a.T + likelihood.noise_std**2 * torch.eye(len(a), dtype=Double)
    b = a @ gain
    precision = torch.eye(b.shape[1], dtype=Double) / std**2 + b.T @ torch.linalg.solve(noise, b)
    information = m.flatten() / std**2 + b.T @ torch.linalg.solve(noise, y.flatten())
    mean, cov = torch.linalg.solve(precision, information), torch.linalg.inv(precision)
    # Whitened: 32 means and 32 x 32 covariances of 6000 draws, 5 standard errors of each.
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), (draws - mean).T, upper=False)
    assert float(white.mean(1).abs().max()) < 5 / n**0.5
    error = white @ white.T / n - torch.eye(len(white), dtype=Double)
    assert float(error.abs().max()) < 5 * (2 / n) ** 0.5
    # And y matters: without it the mean would be many deviations away.
    unguided = torch.linalg.solve_triangular(
        torch.linalg.cholesky(cov), (m.flatten() - mean)[:, None], upper=False
    )
    assert float(unguided.abs().max()) > 1


def test_a_clean_draw_is_given_y_as_well(prior: Prior, likelihood: GaussianLikelihood) -> None:
    """Draws of x_0 given x_t become draws given (x_t, y), in mean and covariance."""
    n = 6000
    y = likelihood.y[:1]
    many = GaussianLikelihood(MixtureSum(4), y.expand(n, -1, -1), likelihood.noise_std)
    x_t = 0.3 * torch.randn(1, *prior.event_shape, generator=generator_for(4), dtype=Double)
    gain, c = dense(prior, LEVEL)
    before = gain @ x_t.flatten()
    white = torch.randn(n, len(c), generator=generator_for(5), dtype=Double)
    x_0 = (before + white @ torch.linalg.cholesky(c).T).reshape(n, *prior.event_shape)
    draws = condition_clean(
        prior, many, x_0, x_t.expand(n, -1, -1), LEVEL, "reported", generator=generator_for(6)
    ).flatten(1)
    a = mixing(prior)
    k = c @ a.T @ torch.linalg.inv(a @ c @ a.T + likelihood.noise_std**2 * torch.eye(8).double())
    mean, cov = before + k @ (y.flatten() - a @ before), c - k @ a @ c
    root = torch.linalg.cholesky(cov)
    white = torch.linalg.solve_triangular(root, (draws - mean).T, upper=False)
    assert float(white.mean(1).abs().max()) < 5 / n**0.5
    error = white @ white.T / n - torch.eye(len(white), dtype=Double)
    assert float(error.abs().max()) < 5 * (2 / n) ** 0.5


def test_without_a_covariance_the_projection_is_exact(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    x = torch.randn(3, *prior.event_shape, generator=generator_for(7), dtype=Double)
    nearest = condition_clean(prior, likelihood, x, x, LEVEL, "none", generator=generator_for(8))
    assert float(likelihood.residual(nearest).abs().max()) < 1e-14
    moved = nearest - x  # the shortest way: along A^T
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=0, atol=1e-14)


def test_more_sweeps_reach_the_posterior(prior: Prior, likelihood: GaussianLikelihood) -> None:
    """The relative error of the posterior mean falls with R, to where 512 draws leave it (.05).

    Seeds 0 .. 3 gave .12 .. .25 at R = 1 and .03 .. .08 at R = 8.
    """
    n, c = 512, prior.denoiser.covariance  # type: ignore[attr-defined]
    a, y = mixing(prior), likelihood.y[:1]
    k = c @ a.T @ torch.linalg.inv(a @ c @ a.T + likelihood.noise_std**2 * torch.eye(8).double())
    want = k @ y.flatten()
    many = GaussianLikelihood(MixtureSum(4), y.expand(n, -1, -1), likelihood.noise_std)
    errors = {}
    for sweeps in (1, 8):
        sampler = CovarianceMGDM(
            num_steps=30,
            gibbs_steps=sweeps,
            covariance="reported",
            gauss_step="exact",
            project=True,
        )
        draws = sampler.sample(prior, many, generator=generator_for(0, sweeps)).flatten(1)
        errors[sweeps] = float((draws.mean(0) - want).norm() / want.norm())
    assert errors[8] < 0.1
    assert errors[8] < 0.7 * errors[1]


def test_impossible_pairings_and_options_are_refused(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    class Modulus(Operator):
        def __call__(self, x: Tensor) -> Tensor:
            return x.sum(1, keepdim=True).abs()

    nonlinear = GaussianLikelihood(Modulus(), likelihood.y, 0.1)
    with pytest.raises(PairingError, match="needs a LinearOperator, got Modulus"):
        CovarianceMGDM(covariance="none", gauss_step="variational", project=True).sample(
            prior, nonlinear, generator=generator_for(0)
        )
    nameless = Prior(lambda x, sigma: x, NoiseSchedule.karras(), prior.event_shape)
    banded = CovarianceMGDM(covariance="band", gauss_step="exact")
    with pytest.raises(PairingError, match="covariance=isotropic"):
        banded.sample(nameless, likelihood, generator=generator_for(0))
    with pytest.raises(PairingError, match="GaussianDenoiser has no bands"):
        GaussianDenoiser(torch.eye(4)).posterior(torch.ones(1, 4), torch.ones(()), "band")
    with pytest.raises(ValueError, match="needs a covariance"):
        CovarianceMGDM(covariance="none", gauss_step="exact")


def test_a_jacobian_that_is_no_covariance_is_refused(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    """Conjugate gradients would return anything: a rotation's products are not even symmetric."""
    rotation = torch.linalg.qr(torch.randn(32, 32, generator=generator_for(0), dtype=Double)).Q
    twisted = Prior(
        lambda x, sigma: (x.flatten(1) @ rotation).reshape(x.shape), prior.schedule, (4, 8)
    )
    sampler = CovarianceMGDM(covariance="jacobian", gauss_step="exact", gibbs_steps=1)
    with pytest.raises(PairingError, match="too far from symmetric"):
        sampler.sample(twisted, likelihood, generator=generator_for(0))


def test_conjugate_gradients_that_do_not_converge_are_no_answer(
    prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the covariance: here one step of them, on a matrix of condition 1e2 or more."""
    operator = SourceMatrix(torch.randn(2, 4, generator=generator_for(0), dtype=Double))
    x = torch.randn(1, *prior.event_shape, generator=generator_for(1), dtype=Double)
    posterior = predict_posterior(prior, x, LEVEL, "reported")
    residual = torch.randn(1, 2, 8, generator=generator_for(2), dtype=Double)
    given = condition(operator, posterior, 0.01)
    converged = given.score(residual)
    assert bool(converged.isfinite().all())
    solve = iterative.conjugate_gradient
    monkeypatch.setattr(
        iterative,
        "conjugate_gradient",
        lambda matvec, b, max_iterations: solve(matvec, b, max_iterations=1),
    )
    with pytest.raises(UserError, match=r"SourceMatrix: .* not converge .*noise_std = 0.01"):
        given.score(residual)
