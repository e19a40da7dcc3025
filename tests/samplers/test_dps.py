from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, GaussianDenoiser, NoiseSchedule, Prior, bridge
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum, Operator
from mgdm_audio.rng import generator_for, randn_like
from mgdm_audio.samplers import DPS, Ancestral, Step
from mgdm_audio.samplers.presets import load_preset
from tests.samplers.toys import Energy

TOP, MIDDLE = 999, 499  # the grid of three points is 0, 499, 999


class Curved:
    """A denoiser whose Jacobian is no constant."""

    def __init__(self, covariance: Tensor) -> None:
        self.linear = GaussianDenoiser(covariance)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.sin(30 * self.linear(x, sigma))


@pytest.fixture
def curved(prior: Prior, covariance: Tensor) -> Prior:
    # A wide prior and a mild schedule, so that x_T tells the denoiser something.
    schedule = NoiseSchedule.karras(sigma_max=2.0)
    return Prior(Curved(100 * covariance), schedule, prior.event_shape)


def first_step(
    sampler: DPS, prior: Prior, likelihood: GaussianLikelihood, x_T: Tensor
) -> tuple[Tensor, Tensor]:
    """Its state after one step, and that of the unconditional step with the same noise."""
    steps: list[Step] = []
    sampler.sample(prior, likelihood, generator=generator_for(1), x_T=x_T, on_step=steps.append)
    assert [step.t for step in steps] == [MIDDLE]
    kernel = bridge(prior.schedule, 0, MIDDLE, TOP, sampler.eta)
    mean = kernel.mean(prior.predict_x0(x_T, TOP), x_T)
    return steps[0].x_t, mean + kernel.std * randn_like(mean, generator_for(1))


@pytest.mark.parametrize("operator", [MixtureSum(4), Energy()])
def test_a_step_descends_the_square_by_its_own_norm(
    curved: Prior, likelihood: GaussianLikelihood, operator: Operator
) -> None:
    """zeta' / r grad r^2 = 2 zeta' grad r, by autograd of the norm of one item at a time."""
    likelihood = GaussianLikelihood(operator, likelihood.y, 0.01)
    x_T = curved.sample_x_T(3, generator=generator_for(0), dtype=torch.float64)
    x, free = first_step(DPS(num_steps=3, step_size=0.7), curved, likelihood, x_T)
    for i in range(3):
        item = x_T[i : i + 1].clone().requires_grad_()
        norm = (likelihood.y[i : i + 1] - operator(curved.predict_x0(item, TOP))).norm()
        (gradient,) = torch.autograd.grad(norm, item)
        assert float(gradient.norm()) > 0.1
        # Rounding of states of size 1, in batches of 1 and 3.
        assert float((x[i] - (free[i] - 1.4 * gradient[0])).abs().max()) < 1e-12


def test_a_residual_of_zero_is_no_step_and_leaves_the_neighbours_alone(
    curved: Prior, likelihood: GaussianLikelihood
) -> None:
    x_T = curved.sample_x_T(3, generator=generator_for(0), dtype=torch.float64)
    y = MixtureSum(4)(curved.predict_x0(x_T, TOP))
    y[1:] += 0.1
    x, free = first_step(DPS(num_steps=3), curved, GaussianLikelihood(MixtureSum(4), y, 0.01), x_T)
    assert torch.equal(x[0], free[0])
    assert bool(x.isfinite().all())
    assert bool(((x - free)[1:].flatten(1).norm(dim=1) > 0.1).all())


def test_steps_of_size_zero_are_the_prior(prior: Prior, likelihood: GaussianLikelihood) -> None:
    x_T = prior.sample_x_T(3, generator=generator_for(0), dtype=torch.float64)
    sampler, free = DPS(num_steps=8, step_size=0.0), Ancestral(num_steps=8)
    x_0 = sampler.sample(prior, likelihood, generator=generator_for(1), x_T=x_T)
    assert torch.equal(x_0, free.sample(prior, generator=generator_for(1), x_T=x_T))


def test_a_small_step_size_fits_the_observation(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    """Steps do not shrink with the residual, which therefore ends within their size of 0."""
    norms = []
    for step_size in (0.0, 0.01):
        sampler = DPS(num_steps=200, step_size=step_size)
        x_0 = sampler.sample(prior, likelihood, generator=generator_for(0))
        norms.append(float(likelihood.residual(x_0).norm()))
    assert norms[1] < norms[0] / 5


def test_it_costs_a_gradient_a_step_and_one_call(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    counter = CallCounter(prior.denoiser)
    counted = Prior(counter, prior.schedule, prior.event_shape)
    DPS(num_steps=7).sample(counted, likelihood, generator=generator_for(0))
    assert (counter.forward, counter.gradient) == (1, 5)


def test_the_default_is_the_preset() -> None:
    assert load_preset("dps").sampler == DPS()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_steps": 2}, "at least 3"),
        ({"step_size": -1.0}, "number >= 0"),
        ({"step_size": float("nan")}, "number >= 0"),
        ({"eta": 1.5}, r"in \[0, 1\]"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DPS(**options)
