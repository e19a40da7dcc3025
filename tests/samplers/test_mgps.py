"""MGPS part by part: its midpoints, its fit, its costs, and what it is without guidance."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, Prior, bridge
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import MGPS, PerStep


def repeated(x: Tensor, n: int) -> Tensor:
    return x.expand(n, *x.shape[1:])


def test_the_fit_reaches_the_gaussian_it_approximates(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    """D is linear, so x_l given (x_0, x_t, y) is N(m*, L^-1) in closed form, and the best
    factorised Gaussian has its mean m* and the variances 1 / diag(L)."""
    n, t, low, noise_std = 500, 400, 250, 0.03
    sampler = MGPS(vi_steps=PerStep(400), learning_rate=PerStep(0.01))
    likelihood = GaussianLikelihood(MixtureSum(4), repeated(likelihood.y[:1], n), noise_std)
    x_T = prior.sample_x_T(2, generator=generator_for(0, "state"), dtype=torch.float64)
    x_0, x_t = 0.1 * x_T[:1], 0.8 * x_T[1:]
    draws = sampler._fit_and_draw(
        prior, likelihood, repeated(x_0, n), repeated(x_t, n), low, t, 0, generator_for(1)
    ).flatten(1)

    eye = torch.eye(32, dtype=torch.float64).reshape(32, 4, 8)
    a_d = MixtureSum(4)(prior.predict_x0(eye, low)).flatten(1).T  # [8, 32]
    kernel = bridge(prior.schedule, 0, low, t)
    m = kernel.mean(x_0, x_t).flatten()
    precision = eye.reshape(32, 32) / kernel.std**2 + a_d.T @ a_d / noise_std**2
    y = likelihood.y[0].flatten()
    mean = torch.linalg.solve(precision, m / kernel.std**2 + a_d.T @ y / noise_std**2)
    std = precision.diag().rsqrt()
    # The potential matters here.
    assert float(((m - mean) / std).abs().max()) > 2.5
    assert float((kernel.std / std).max()) > 1.9
    # 500 draws know a mean to 4.5 % of a standard deviation and a standard deviation to 3.2 %;
    # Adam's own jitter adds some 2 %. Four standard errors plus that.
    assert float(((draws.mean(0) - mean) / std).abs().max()) < 0.2
    excess = draws.std(0) / std - 1
    assert float(excess.abs().max()) < 0.15
    assert abs(float(excess.mean())) < 0.04


@pytest.mark.parametrize("midpoint", [0.0, 0.5, 1.0])
def test_without_gradient_steps_it_is_ddpm_whatever_the_midpoint(
    prior: Prior, likelihood: GaussianLikelihood, covariance: Tensor, midpoint: float
) -> None:
    """x_l ~ q(x_l | x_0, x_t), then x_s ~ q(x_s | x_l, x_t), is x_s ~ q(x_s | x_0, x_t)."""
    points, draws, schedule = 12, 4000, prior.schedule
    c, basis = torch.linalg.eigh(covariance)
    variance = torch.full_like(c, float(schedule.sigma[-1]) ** 2)
    for u, t in pairwise(schedule.timesteps(points)[::-1]):
        shrink = c / (c + schedule.noise_level[u] ** 2) / schedule.alpha[u]
        kernel = bridge(schedule, 0, t, u)
        variance = (kernel.c_s * shrink + kernel.c_u) ** 2 * variance + kernel.std**2
    likelihood = GaussianLikelihood(MixtureSum(4), repeated(likelihood.y[:1], draws), 0.01)
    sampler = MGPS(points, midpoint, vi_steps=PerStep(0))
    z = sampler.sample(prior, likelihood, generator=generator_for(0)).flatten(1) @ basis
    # 32 variances and means of 4000 draws: 5 standard errors of each.
    assert float((z.var(0) / variance - 1).abs().max()) < 5 * (2 / draws) ** 0.5
    assert float((z.mean(0) / variance.sqrt()).abs().max()) < 5 / draws**0.5


@pytest.mark.parametrize(("midpoint", "of_350"), [(0.0, 1), (0.5, 175), (1.0, 350)])
def test_guidance_is_taken_at_the_midpoint(
    prior: Prior, likelihood: GaussianLikelihood, midpoint: float, of_350: int
) -> None:
    seen = []

    class Recorder(CallCounter):
        def __call__(self, x: Tensor, sigma: Tensor, *rest: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                seen.append(prior.schedule.nearest(float(sigma)))
            return super().__call__(x, sigma, *rest)

    recorder = Recorder(prior.denoiser)
    recorded = Prior(recorder, prior.schedule, prior.event_shape)
    sampler = MGPS(21, midpoint, vi_steps=PerStep(1, first=(1, 2)))
    sampler.sample(recorded, likelihood, generator=generator_for(0))
    grid = prior.schedule.timesteps(21)
    want = [max(int(midpoint * s), 1) for s in grid[-2:0:-1]]
    assert seen == [want[0], *want]
    assert max(int(midpoint * 350), 1) == of_350
    # One call a level and the gradient steps; the last level is denoised, not left.
    assert (recorder.forward, recorder.gradient) == (20, 20)


def test_the_defaults_are_the_published_rule() -> None:
    """i counts down from N - 1 to 2: 2 where i <= 20, else 20 where i >= N - 5 or 10 divides i."""
    rule, n = MGPS().vi_steps, 300
    steps = [int(rule.at(k, n - 2)) for k in range(n - 2)]
    for k, i in enumerate(range(n - 1, 1, -1)):
        if i <= 20:
            assert steps[k] == 2
        elif i >= n - 5:
            assert steps[k] == 20
    # Between them ours falls on other multiples of 10, as often.
    assert steps[5:-19].count(20) == sum(i % 10 == 0 for i in range(21, n - 5))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_steps": 2}, "num_steps = 2"),
        ({"midpoint": 1.5}, "midpoint"),
        ({"vi_steps": PerStep(1.5)}, "vi_steps"),
        ({"vi_steps": PerStep(-1)}, "vi_steps"),
        ({"learning_rate": PerStep(0.0)}, "learning_rate"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MGPS(**options)
