from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, GaussianDenoiser, NoiseSchedule, Prior, bridge
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import (
    GaussianLikelihood,
    Idempotent,
    LinearOperator,
    MixtureSum,
    SourceMatrix,
    Stacked,
)
from mgdm_audio.rng import generator_for, randn_like
from mgdm_audio.samplers import PGDM, Step
from mgdm_audio.samplers.presets import load_preset
from tests.samplers.toys import EVENT, OPERATORS, Energy, normal

TOP, MIDDLE = 999, 499  # the grid of three points is 0, 499, 999
SCHEDULE = NoiseSchedule.karras(sigma_max=2.0)  # mild: x_T tells the denoiser something


class Curved:
    """A denoiser whose Jacobian is no constant."""

    def __init__(self, covariance: Tensor) -> None:
        self.linear = GaussianDenoiser(covariance)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.sin(3 * self.linear(x, sigma))


MASK = OPERATORS["mask"]
each = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def dense(operator: LinearOperator) -> Tensor:
    """``A`` over flattened events: [observations, 32]."""
    return operator(torch.eye(32, dtype=torch.float64).reshape(-1, *EVENT)).flatten(1).T


def guidance(prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor) -> Tensor:
    """``g`` of the first step: what it adds to DDIM with the same noise, less its weight."""
    steps: list[Step] = []
    PGDM(num_steps=3).sample(
        prior, likelihood, generator=generator_for(1), x_T=x_T, on_step=steps.append
    )
    assert [step.t for step in steps] == [MIDDLE, 0]
    kernel = bridge(prior.schedule, 0, MIDDLE, TOP)
    mean = kernel.mean(prior.predict_x0(x_T, TOP), x_T)
    free = mean + kernel.std * randn_like(mean, generator_for(1))
    return (steps[0].x_t - free) / float(SCHEDULE.alpha[TOP] * SCHEDULE.alpha[MIDDLE])


@each
def test_the_guidance_is_the_gradient_of_the_stated_log_density(
    covariance: Tensor, operator: LinearOperator
) -> None:
    prior = Prior(Curved(100 * covariance), SCHEDULE, EVENT)
    x_T, noise_std = prior.sample_x_T(2, generator=generator_for(0), dtype=torch.float64), 0.3
    y = operator(normal(2, *EVENT))
    g = guidance(prior, GaussianLikelihood(operator, y, noise_std), x_T)
    r2, a = float(SCHEDULE.sigma[TOP]) ** 2, dense(operator)
    spread = r2 * a @ a.T + noise_std**2 * torch.eye(len(a), dtype=torch.float64)
    x = x_T.clone().requires_grad_()
    residual = y.flatten(1) - prior.predict_x0(x, TOP).flatten(1) @ a.T
    log_density = -(residual * torch.linalg.solve(spread, residual.T).T).sum() / 2
    (gradient,) = torch.autograd.grad(log_density, x)
    assert float(gradient.norm()) > 0.1
    # Conjugate gradients stop at ten rounding errors, times a condition of up to 1e4.
    torch.testing.assert_close(g, r2 * gradient, rtol=1e-8, atol=1e-10)


@each
def test_it_is_the_exact_score_of_a_unit_gaussian(operator: LinearOperator) -> None:
    """x_0 ~ N(0, I): then y = alpha A x_t + N(0, sigma^2 A A^T + sigma_y^2 I) given x_t."""
    prior = Prior(GaussianDenoiser(torch.eye(32)), SCHEDULE, EVENT)
    x_T, noise_std = prior.sample_x_T(2, generator=generator_for(0), dtype=torch.float64), 0.1
    y, a = operator(normal(2, *EVENT)), dense(operator)
    alpha, sigma = float(SCHEDULE.alpha[TOP]), float(SCHEDULE.sigma[TOP])
    spread = sigma**2 * a @ a.T + noise_std**2 * torch.eye(len(a), dtype=torch.float64)
    residual = y.flatten(1) - alpha * x_T.flatten(1) @ a.T
    score = (alpha * torch.linalg.solve(spread, residual.T).T @ a).reshape(-1, *EVENT)
    g = guidance(prior, GaussianLikelihood(operator, y, noise_std), x_T)
    torch.testing.assert_close(g, sigma**2 * score, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "operator",
    [MixtureSum(3), SourceMatrix(normal(2, 3)), Stacked([SourceMatrix(normal(2, 3))])],
    ids=["sum", "matrix", "stacked"],
)
def test_the_null_space_gets_nothing_in_float32_either(operator: LinearOperator) -> None:
    """At audio's sigma_y, 1 / rho is near 1e8: a rounding error would become a source."""
    prior = Prior(GaussianDenoiser(torch.eye(24)), SCHEDULE, (3, 8))
    x_T = prior.sample_x_T(2, generator=generator_for(0), dtype=torch.float64)
    y = operator(normal(2, 3, 8))
    exact = guidance(prior, GaussianLikelihood(operator, y, 1e-4), x_T)
    single = guidance(prior, GaussianLikelihood(operator, y.float(), 1e-4), x_T.float())
    # 100 rounding errors, over two matrix products and the weight.
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5 * float(exact.norm()))


def test_the_last_step_is_guided_and_fits_y(prior: Prior, likelihood: GaussianLikelihood) -> None:
    """There r_t < sigma_y: little is left to explain; the residual is within the noise."""
    x_0 = PGDM(num_steps=100).sample(prior, likelihood, generator=generator_for(0))
    assert float(likelihood.residual(x_0).square().mean().sqrt()) < 3 * likelihood.noise_std


def test_it_costs_a_gradient_a_step(prior: Prior, likelihood: GaussianLikelihood) -> None:
    counter = CallCounter(prior.denoiser)
    counted = Prior(counter, prior.schedule, prior.event_shape)
    PGDM(num_steps=7).sample(counted, likelihood, generator=generator_for(0))
    assert (counter.forward, counter.gradient) == (0, 6)


def test_a_map_that_leaves_what_it_made_is_its_own_pseudo_inverse() -> None:
    """For a mask, where A^+ = A, the variant for JPEG is the limit of no noise, alpha_s aside."""
    prior = Prior(GaussianDenoiser(torch.eye(32)), SCHEDULE, EVENT)
    x_T, mask = prior.sample_x_T(2, generator=generator_for(0), dtype=torch.float64), MASK
    y = mask(normal(2, *EVENT))
    linear = guidance(prior, GaussianLikelihood(mask, y, 1e-9), x_T)
    g = guidance(prior, GaussianLikelihood(Idempotent(mask), y, 1e-9), x_T)
    # Both were divided by alpha_t alpha_s; the variant's weight is alpha_t.
    torch.testing.assert_close(g * float(SCHEDULE.alpha[MIDDLE]), linear, rtol=1e-9, atol=1e-12)


def test_it_needs_a_linear_operator(prior: Prior, likelihood: GaussianLikelihood) -> None:
    likelihood = GaussianLikelihood(Energy(), likelihood.y, 0.01)
    with pytest.raises(PairingError, match="PGDM needs a LinearOperator, got Energy"):
        PGDM().sample(prior, likelihood, generator=generator_for(0))


def test_the_default_is_the_preset() -> None:
    assert load_preset("pgdm").sampler == PGDM()


@pytest.mark.parametrize(
    ("options", "says"), [({"num_steps": 1}, "at least 2"), ({"eta": -0.1}, r"in \[0, 1\]")]
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PGDM(**options)
