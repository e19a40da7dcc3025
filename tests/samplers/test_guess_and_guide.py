"""Guess & Guide: its two phases, what its fit tends to, and that the denoiser has no gradient."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, Prior
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum, Operator
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import GuessAndGuide, Step


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("guess_steps", [0, 5])
def test_it_costs_a_call_a_step_and_no_gradient(
    prior: Prior, likelihood: GaussianLikelihood, guess_steps: int
) -> None:
    counter = CallCounter(prior.denoiser)
    counted = Prior(counter, prior.schedule, prior.event_shape)
    sampler = GuessAndGuide(num_steps=8, guess_steps=guess_steps)
    sampler.sample(counted, likelihood, generator=generator_for(0))
    assert (counter.forward, counter.gradient) == (guess_steps + 8, 0)


def test_it_stays_at_one_level_and_then_goes_down(prior: Prior) -> None:
    levels = GuessAndGuide(num_steps=4, guess_steps=3, start=0.4).levels(prior)
    assert levels == [399, 399, 399, 399, 299, 199, 99]
    assert GuessAndGuide(num_steps=2, guess_steps=0, start=1e-4).levels(prior) == [1, 1]


def test_the_fit_tends_to_the_nearest_point_that_fits() -> None:
    """D + A^+ (y - A D) for the sum: what A does not see is left as the denoiser had it."""
    operator, x_0 = MixtureSum(4), normal(3, 4, 8)
    likelihood = GaussianLikelihood(operator, normal(3, 1, 8, seed=1), 1e-2)
    fitted = GuessAndGuide(fit_steps=1000, learning_rate=0.02)._fit(likelihood, x_0)
    want = x_0 + operator.pinv(likelihood.residual(x_0))
    # Adam's last oscillations; the way it has come is of order 1.
    torch.testing.assert_close(fitted, want, rtol=0, atol=1e-4)
    assert float((x_0 - want).abs().max()) > 0.5


def test_a_few_steps_go_part_of_the_way() -> None:
    """Adam's first steps are of the learning rate each, so that x_0 stays near D."""
    likelihood = GaussianLikelihood(MixtureSum(4), normal(3, 1, 8), 1e-2)
    x_0 = torch.zeros(3, 4, 8).double()
    fitted = GuessAndGuide(fit_steps=5, learning_rate=0.001)._fit(likelihood, x_0)
    assert float(x_0.abs().max()) == 0  # and the estimate it starts from is not touched
    torch.testing.assert_close(
        fitted, 0.005 * likelihood.y.sign().expand(-1, 4, -1), atol=1e-4, rtol=0
    )


def test_any_differentiable_operator_will_do() -> None:
    class Power(Operator):
        def __call__(self, x: Tensor) -> Tensor:
            return x.square().sum(1, keepdim=True)

    x_0 = normal(2, 4, 8)
    likelihood = GaussianLikelihood(Power(), 2 * Power()(x_0), 0.1)
    fitted = GuessAndGuide(fit_steps=300)._fit(likelihood, x_0)
    assert float(likelihood.residual(fitted).abs().max()) < 0.01


def test_without_a_fit_it_denoises_and_noises_again(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    """x_t of a level is alpha_t x_0 plus sigma_t times fresh noise, x_0 being D one level above."""
    steps = list[Step]()
    schedule, generator = prior.schedule, generator_for(0)
    x_T = prior.sample_x_T(3, generator=generator, dtype=torch.float64)
    sampler = GuessAndGuide(num_steps=5, guess_steps=2, fit_steps=0)
    x_0 = sampler.sample(prior, likelihood, generator=generator, x_T=x_T, on_step=steps.append)
    again = generator_for(0)
    prior.sample_x_T(3, generator=again, dtype=torch.float64)
    torch.testing.assert_close(steps[0].x_t, x_T * schedule.sigma[steps[0].t] / schedule.sigma[-1])
    for step in steps:
        assert torch.equal(step.x_0, prior.predict_x0(step.x_t, step.t))
    for above, step in pairwise(steps):
        noise = torch.randn(3, 4, 8, generator=again, dtype=torch.float64)
        want = schedule.alpha[step.t] * above.x_0 + schedule.sigma[step.t] * noise
        torch.testing.assert_close(step.x_t, want)
    assert torch.equal(x_0, steps[-1].x_0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"guess_steps": -1}, "guess_steps"),
        ({"fit_steps": -1}, "fit_steps"),
        ({"start": 0.0}, "start"),
        ({"start": 1.1}, "start"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GuessAndGuide(**options)
