from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, Prior, bridge
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import Ancestral
from mgdm_audio.samplers.presets import load_preset


def variances(prior: Prior, c: Tensor, sampler: Ancestral) -> Tensor:
    """Of x_0, in the eigenbasis of C: each DDIM step is linear, so they follow a recursion."""
    schedule, levels, eta = prior.schedule, sampler.levels(prior), sampler.eta
    start = levels[0] if sampler.noise_max else -1
    variance = torch.full_like(c, float(schedule.sigma[start]) ** 2)
    for u, t in pairwise(levels):
        shrink = c / (c + schedule.noise_level[u] ** 2) / schedule.alpha[u]  # D in C's eigenbasis
        kernel = bridge(schedule, 0, t, u, eta)
        variance = (kernel.c_s * shrink + kernel.c_u) ** 2 * variance + kernel.std**2
    return variance


@pytest.mark.parametrize("noise_max", [0.0, 3.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_its_moments_follow_the_linear_recursion(
    prior: Prior, covariance: Tensor, eta: float, noise_max: float
) -> None:
    sampler, draws = Ancestral(num_steps=20, eta=eta, noise_max=noise_max), 4000
    variance = variances(prior, torch.linalg.eigvalsh(covariance), sampler)
    x_T = prior.sample_x_T(draws, generator=generator_for(0), dtype=torch.float64)
    x = sampler.sample(prior, generator=generator_for(1), x_T=x_T).flatten(1)
    z = x @ prior.denoiser.basis  # type: ignore[attr-defined]
    # 32 variances and means of 4000 draws: 5 standard errors of each.
    assert float((z.var(0) / variance - 1).abs().max()) < 5 * (2 / draws) ** 0.5
    assert float((z.mean(0) / variance.sqrt()).abs().max()) < 5 / draws**0.5


def test_it_converges_to_the_prior_from_below(prior: Prior, covariance: Tensor) -> None:
    """At eta = 1 finite steps lose variance: a sixth of the trace with 100 levels."""
    c = torch.linalg.eigvalsh(covariance)
    ratios = [float(variances(prior, c, Ancestral(n)).sum() / c.sum()) for n in (20, 100, 1000)]
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


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_steps": 1}, "num_steps is at least 2"),
        ({"eta": 1.5}, "eta lies in"),
        ({"noise_max": 1e-4}, "noise levels"),
        ({"noise_max": -1.0}, "noise levels"),
        ({"noise_max": 1.0, "noise_min": 0.0}, "noise levels"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Ancestral(**options)  # type: ignore[arg-type]


def test_levels_of_its_own_run_from_noise_max_to_noise_min_and_0(prior: Prior) -> None:
    levels = Ancestral(6, noise_max=3.0, noise_min=0.01).levels(prior)
    schedule = prior.schedule
    assert (levels[0], levels[-2:]) == (schedule.nearest(3.0), [schedule.nearest(0.01), 0])
    assert len(levels) == 6
    # Equal steps of sigma^(1 / 7), to a table whose neighbours are at most 26 % apart at .01.
    steps = (schedule.noise_level[levels[:-1]] ** (1 / 7)).diff()
    assert float((steps / steps.mean() - 1).abs().max()) < 0.1
    assert Ancestral(6).levels(prior) == schedule.timesteps(6)[::-1]
    # Levels closer than the table's own are visited once.
    crowded = Ancestral(100, noise_max=0.011, noise_min=0.01).levels(prior)
    assert crowded == sorted(set(crowded), reverse=True)
    assert len(crowded) < 20


def test_the_bundled_setting_keeps_most_of_the_prior_s_variance(
    prior: Prior, covariance: Tensor
) -> None:
    """In 49 calls 92 % of the trace; with eta = 1 on the schedule's own grid it is 71 %."""
    c = torch.linalg.eigvalsh(covariance)
    bundled = load_preset("ancestral").sampler
    assert isinstance(bundled, Ancestral)
    ratios = [float(variances(prior, c, s).sum() / c.sum()) for s in (bundled, Ancestral(50))]
    assert ratios == [pytest.approx(r, abs=0.01) for r in (0.92, 0.71)]
