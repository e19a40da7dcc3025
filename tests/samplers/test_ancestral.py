from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, Prior, bridge
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import Ancestral


def variances(prior: Prior, c: Tensor, num_steps: int, eta: float) -> Tensor:
    """Of x_0, in the eigenbasis of C: each DDIM step is linear, so they follow a recursion."""
    schedule = prior.schedule
    variance = torch.full_like(c, float(schedule.sigma[-1]) ** 2)
    for u, t in pairwise(schedule.timesteps(num_steps)[::-1]):
        shrink = c / (c + schedule.noise_level[u] ** 2) / schedule.alpha[u]  # D in C's eigenbasis
        kernel = bridge(schedule, 0, t, u, eta)
        variance = (kernel.c_s * shrink + kernel.c_u) ** 2 * variance + kernel.std**2
    return variance


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_its_moments_follow_the_linear_recursion(
    prior: Prior, covariance: Tensor, eta: float
) -> None:
    variance = variances(prior, torch.linalg.eigvalsh(covariance), 20, eta)
    sampler, draws = Ancestral(num_steps=20, eta=eta), 4000
    x_T = prior.sample_x_T(draws, generator=generator_for(0), dtype=torch.float64)
    x = sampler.sample(prior, generator=generator_for(1), x_T=x_T).flatten(1)
    z = x @ prior.denoiser.basis  # type: ignore[attr-defined]
    # 32 variances and means of 4000 draws: 5 standard errors of each.
    assert float((z.var(0) / variance - 1).abs().max()) < 5 * (2 / draws) ** 0.5
    assert float((z.mean(0) / variance.sqrt()).abs().max()) < 5 / draws**0.5


def test_it_converges_to_the_prior_from_below(prior: Prior, covariance: Tensor) -> None:
    """At eta = 1 finite steps lose variance: a sixth of the trace with 100 levels."""
    c = torch.linalg.eigvalsh(covariance)
    ratios = [float(variances(prior, c, n, 1.0).sum() / c.sum()) for n in (20, 100, 1000)]
    assert ratios == [pytest.approx(r, abs=0.01) for r in (0.47, 0.84, 0.98)]


def test_it_costs_one_call_a_step_and_no_gradient(prior: Prior) -> None:
    counter = CallCounter(prior.denoiser)
    counted = Prior(counter, prior.schedule, prior.event_shape)
    x_T = prior.sample_x_T(2, generator=generator_for(0))
    Ancestral(num_steps=7).sample(counted, generator=generator_for(1), x_T=x_T)
    assert (counter.forward, counter.gradient) == (6, 0)


def test_without_a_likelihood_it_needs_to_be_told_the_batch(prior: Prior) -> None:
    with pytest.raises(TypeError, match="x_T"):
        Ancestral().sample(prior, generator=generator_for(0))


@pytest.mark.parametrize("options", [{"num_steps": 1}, {"eta": 1.5}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="num_steps is at least 2"):
        Ancestral(**options)  # type: ignore[arg-type]
