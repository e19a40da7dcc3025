from typing import Any

import pytest
import torch

from mgdm_audio.diffusion import CallCounter, NoiseSchedule, Prior, bridge
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import (
    GaussianLikelihood,
    LinearOperator,
    Mask,
    SourceMatrix,
)
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import DDNM, Step
from mgdm_audio.samplers.presets import load_preset
from tests.samplers.toys import EVENT, OPERATORS, Known, normal

TOP, MIDDLE = 999, 499  # the grid of three points is 0, 499, 999


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_ddnm_meets_y_and_leaves_the_null_space_alone(
    prior: Prior, operator: LinearOperator
) -> None:
    y = operator(0.1 * normal(2, *EVENT))
    x_T = prior.sample_x_T(2, generator=generator_for(0), dtype=torch.float64)
    steps: list[Step] = []
    x_0 = DDNM(num_steps=5, plus=False).sample(
        prior,
        GaussianLikelihood(operator, y, 0.5),  # whose noise it takes no notice of
        generator=generator_for(1),
        x_T=x_T,
        on_step=steps.append,
    )
    for estimate in [x_0, *(step.x_0 for step in steps)]:
        # Conjugate gradients stop at ten rounding errors, times a condition of 1e2.
        assert float((operator(estimate) - y).abs().max()) < 1e-12
    change = steps[0].x_0 - prior.predict_x0(x_T, TOP)
    assert float(change.norm()) > 0.1
    torch.testing.assert_close(change, operator.pinv(operator(change)), rtol=0, atol=1e-12)


# Singular values 3, .3, .03 and a null space; every regime of the noise budget has its own.
V = torch.linalg.qr(normal(4, 4)).Q
MATRIX = SourceMatrix(torch.diag(torch.tensor([3.0, 0.3, 0.03]).double()) @ V[:3])


@pytest.mark.parametrize("eta", [0.85, 1.0])
def test_ddnm_plus_keeps_the_marginal_at_each_singular_value(eta: float) -> None:
    """If x_t ~ N(alpha_t x_0, sigma_t^2 I) and D = x_0, then x_s is so too, whatever noise y has.

    The variance is exact; it is measured on 4000 draws of x_t, of the noise of y and of the step's.
    """
    draws, noise_std = 4000, 0.6
    schedule, x_0 = NoiseSchedule.karras(sigma_max=2.0), normal(1, *EVENT)
    kernel = bridge(schedule, 0, MIDDLE, TOP, eta)
    room = kernel.std / kernel.c_s  # noise that the estimate may have
    s = MATRIX.singular_values[:, 0]
    assert noise_std / s[0] < room < noise_std / s[1]  # lambda = 1; lambda < 1
    y = MATRIX(x_0) + noise_std * normal(draws, 3, 8, seed=3)
    x_T = schedule.alpha[TOP] * x_0 + schedule.sigma[TOP] * normal(draws, *EVENT, seed=1)
    steps: list[Step] = []
    DDNM(num_steps=3, eta=eta).sample(
        Prior(Known(x_0), schedule, EVENT),
        GaussianLikelihood(MATRIX, y, noise_std),
        generator=generator_for(2),
        x_T=x_T,
        on_step=steps.append,
    )
    z = MATRIX.V_T(steps[0].x_t - schedule.alpha[MIDDLE] * x_0) / schedule.sigma[MIDDLE]
    z = z.transpose(1, 2).flatten(0, 1)  # [draws of one coordinate, 4]
    # 32000 draws of ten variances and covariances: five standard errors, sqrt(2 / 32000) each.
    assert float((z.T @ z / len(z) - torch.eye(4)).abs().max()) < 0.04
    # y does enter the estimate, by lambda / s of its noise: all of it, or what there is room for.
    noise = MATRIX.V_T(steps[0].x_0 - x_0).square().mean((0, 2)).sqrt()
    want = torch.cat([noise_std / s[:1], torch.tensor([room, room])])
    assert float((noise[:3] / want - 1).abs().max()) < 0.04
    assert float(noise[3]) < 1e-12


def test_ddnm_plus_is_ddnm_where_y_has_no_noise(prior: Prior) -> None:
    """Of a mask, whose V is the identity, so that both draw the same noise. Not at the last step,
    which draws none."""
    operator = Mask(normal(*EVENT) > 0)
    likelihood = GaussianLikelihood(operator, operator(normal(2, *EVENT)), 1e-12)
    states = []
    for plus in (True, False):
        steps: list[Step] = []
        DDNM(num_steps=8, plus=plus).sample(
            prior, likelihood, generator=generator_for(0), on_step=steps.append
        )
        states.append(torch.stack([step.x_t for step in steps[:-1]]))
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=1e-11)


def test_the_last_step_of_ddnm_plus_is_the_denoiser(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    steps: list[Step] = []
    x_0 = DDNM(num_steps=8).sample(
        prior, likelihood, generator=generator_for(0), on_step=steps.append
    )
    assert torch.equal(x_0, prior.predict_x0(steps[-2].x_t, steps[-2].t))
    assert torch.equal(x_0, steps[-1].x_0)


@pytest.mark.parametrize("plus", [True, False])
def test_it_costs_one_call_a_step_and_no_gradient(
    prior: Prior, likelihood: GaussianLikelihood, plus: bool
) -> None:
    counter = CallCounter(prior.denoiser)
    counted = Prior(counter, prior.schedule, prior.event_shape)
    DDNM(num_steps=7, plus=plus).sample(counted, likelihood, generator=generator_for(0))
    assert (counter.forward, counter.gradient) == (6, 0)


def test_ddnm_plus_needs_a_decomposition(prior: Prior) -> None:
    operator = OPERATORS["plain"]
    likelihood = GaussianLikelihood(operator, normal(1, 5), 0.01)
    with pytest.raises(PairingError, match=r"DDNM\+ needs a SpectralOperator, got Plain"):
        DDNM().sample(prior, likelihood, generator=generator_for(0))


def test_the_default_is_the_preset() -> None:
    assert load_preset("ddnm").sampler == DDNM()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_steps": 1}, "at least 2"),
        ({"eta": 1.1}, r"in \[0, 1\]"),
        ({"eta": 0.0}, "plus = false"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DDNM(**options)
    assert DDNM(eta=0.0, plus=False).eta == 0
