from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import (
    GaussianLikelihood,
    LinearOperator,
    MixtureSum,
    SourceMatrix,
    Stacked,
)
from mgdm_audio.rng import generator_for, randn_like
from mgdm_audio.samplers import DiffPIR, Step
from mgdm_audio.samplers.presets import load_preset
from tests.samplers.toys import EVENT, OPERATORS, Energy, normal

LEVELS = [999, 666, 333, 0]  # the grid of four points
SCHEDULE = NoiseSchedule.karras(sigma_max=2.0)


@pytest.fixture
def wide(covariance: Tensor) -> Prior:
    return Prior(GaussianDenoiser(100 * covariance), SCHEDULE, EVENT)


def run(
    sampler: DiffPIR, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor
) -> tuple[Tensor, list[Tensor], list[Step]]:
    """The result, the state before every step, and the reports."""
    steps: list[Step] = []
    x_0 = sampler.sample(
        prior, likelihood, generator=generator_for(1), x_T=x_T, on_step=steps.append
    )
    return x_0, [x_T, *(step.x_t for step in steps)], steps


@pytest.mark.parametrize("strength", [1.0, 7.0])
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_the_estimate_is_the_proximal_point(
    wide: Prior, operator: LinearOperator, strength: float
) -> None:
    """Of a strictly convex objective, whose gradient is 0 there and nowhere else."""
    likelihood = GaussianLikelihood(operator, operator(normal(2, *EVENT)), 0.2)
    x_T = wide.sample_x_T(2, generator=generator_for(0), dtype=torch.float64)
    sampler = DiffPIR(num_steps=4, strength=strength)
    x_0, states, steps = run(sampler, wide, likelihood, x_T)
    assert [step.t for step in steps] == LEVELS[1:]
    for t, x, step in zip(LEVELS, states, steps, strict=False):
        denoised = wide.predict_x0(x, t)
        alpha, sigma = float(SCHEDULE.alpha[t]), float(SCHEDULE.sigma[t])
        rho = strength * 0.2**2 * alpha**2 / sigma**2
        data = operator.adjoint(operator(step.x_0) - likelihood.y)
        assert float((operator(denoised) - likelihood.y).norm()) > 0.1
        # Conjugate gradients stop at ten rounding errors of |A^T r|, up to 1e3.
        assert float((data + rho * (step.x_0 - denoised)).abs().max()) < 1e-10
    assert torch.equal(x_0, steps[-1].x_0)


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_the_next_state_mixes_the_implied_noise_and_a_fresh_one(wide: Prior, zeta: float) -> None:
    operator = MixtureSum(4)
    likelihood = GaussianLikelihood(operator, operator(normal(2, *EVENT)), 0.2)
    x_T = wide.sample_x_T(2, generator=generator_for(0), dtype=torch.float64)
    _, states, steps = run(DiffPIR(num_steps=4, zeta=zeta), wide, likelihood, x_T)
    generator = generator_for(1)
    for t, s, x, step in zip(LEVELS, LEVELS[1:], states, steps, strict=False):
        # Implied: the noise that makes x_t of x_c.
        implied = (x / SCHEDULE.alpha[t] - step.x_0) / SCHEDULE.noise_level[t]
        fresh = randn_like(x, generator)
        noise = (1 - zeta) ** 0.5 * implied + zeta**0.5 * fresh
        want = SCHEDULE.alpha[s] * step.x_0 + SCHEDULE.sigma[s] * noise
        torch.testing.assert_close(step.x_t, want, rtol=0, atol=1e-12)


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
    exact, single = (
        run(DiffPIR(num_steps=4), prior, GaussianLikelihood(operator, v, 1e-4), x)[2][0].x_0
        for v, x in ((y, x_T), (y.float(), x_T.float()))
    )
    # 100 rounding errors, over two matrix products.
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5 * float(exact.norm()))


def test_the_result_fits_y(prior: Prior, likelihood: GaussianLikelihood) -> None:
    x_0 = DiffPIR(num_steps=100).sample(prior, likelihood, generator=generator_for(0))
    # Its residual is the denoiser's, shrunk by rho / (K + rho): never far above the noise.
    assert float(likelihood.residual(x_0).square().mean().sqrt()) < 2 * likelihood.noise_std


def test_it_costs_one_call_a_step_and_no_gradient(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    counter = CallCounter(prior.denoiser)
    counted = Prior(counter, prior.schedule, prior.event_shape)
    DiffPIR(num_steps=7).sample(counted, likelihood, generator=generator_for(0))
    assert (counter.forward, counter.gradient) == (6, 0)


def test_it_needs_a_linear_operator(prior: Prior, likelihood: GaussianLikelihood) -> None:
    likelihood = GaussianLikelihood(Energy(), likelihood.y, 0.01)
    with pytest.raises(PairingError, match="DiffPIR needs a LinearOperator, got Energy"):
        DiffPIR().sample(prior, likelihood, generator=generator_for(0))


def test_the_default_is_the_preset() -> None:
    assert load_preset("diffpir").sampler == DiffPIR()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_steps": 1}, "at least 2"),
        ({"strength": 0.0}, "positive"),
        ({"zeta": 1.1}, r"in \[0, 1\]"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DiffPIR(**options)
