"""RED-diff: its gradient term by term, and the estimate at which that gradient vanishes."""

from dataclasses import replace
from itertools import accumulate
from operator import mul
from typing import Literal

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.images.blurs import gaussian_kernel
from mgdm_audio.measurement import GaussianLikelihood, Operator, SeparableBlur
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.samplers import REDDiff, Step, reddiff
from mgdm_audio.samplers.adam import Adam
from mgdm_audio.samplers.presets import load_preset

Double = torch.float64
SUM = torch.eye(8, dtype=Double).repeat(1, 4)  # the sum of sources as a matrix, [8, 32]


def zeros(x: Tensor, generator: object) -> Tensor:
    return torch.zeros_like(x)


def one_level(s: float, num_levels: int) -> NoiseSchedule:
    """A schedule whose levels are all s, to a part in a million (they must rise)."""
    rising = torch.linspace(1, 1 + 1e-6, num_levels, dtype=Double)
    return NoiseSchedule.from_noise_levels(torch.cat([torch.zeros(1, dtype=Double), s * rising]))


def stationary(covariance: Tensor, y: Tensor, s: float, strength: float) -> Tensor:
    """The zero of E[gradient] = lambda s^2 (C + s^2 I)^-1 mu - A^T (y - A mu): ``[batch, 4, 8]``.

    The noise predicted in x_t = alpha (mu + s eps) is s (C + s^2 I)^-1 (mu + s eps), whose mean is
    s (C + s^2 I)^-1 mu, and lambda_t = lambda s.
    """
    eye = torch.eye(32, dtype=Double)
    precision = strength * s**2 * torch.linalg.inv(covariance + s**2 * eye)
    mu = torch.linalg.solve(precision + SUM.T @ SUM, (y.flatten(1) @ SUM).T).T
    return mu.reshape(-1, 4, 8)


def ddpm_levels() -> tuple[Tensor, Tensor]:
    """alpha and sigma of DDPM at the index t + 1 for t = 0..999: ``[1000]`` each.

    The product of 1 - beta_0 .. 1 - beta_t, where beta rises in equal steps from 1e-4 to 2e-2.
    """
    kept = [1 - 1e-4 - i / 999 * (2e-2 - 1e-4) for i in range(1000)]
    alpha_bar = torch.tensor(list(accumulate(kept, mul)), dtype=Double)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


@pytest.mark.parametrize("levels", ["prior", "ddpm"])
@pytest.mark.parametrize("schedule", [NoiseSchedule.karras(), NoiseSchedule.linear()])
def test_the_gradient_is_weighted_by_the_schedule(
    prior: Prior,
    covariance: Tensor,
    likelihood: GaussianLikelihood,
    schedule: NoiseSchedule,
    levels: Literal["prior", "ddpm"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without noise beyond the first step's, which is x_T: in eps the gradient is linear.

    x_t and lambda_t are of the prior's own schedule, or of DDPM's at the index t + 1; the network
    is asked for the noise of x_t at the prior's index t in either case.
    """
    monkeypatch.setattr(reddiff, "randn_like", zeros)
    seen: list[tuple[Tensor, Tensor]] = []

    class Recorder(Adam):
        def step(self, gradient: Tensor) -> None:
            assert (self.learning_rate, self.betas) == (0.2, (0.8, 0.95))
            seen.append((self.x.clone(), gradient.clone()))
            super().step(gradient)

    monkeypatch.setattr(reddiff, "Adam", Recorder)
    prior = replace(prior, schedule=schedule)
    x_T = prior.sample_x_T(3, generator=generator_for(0), dtype=Double)
    sampler, steps = REDDiff(12, 0.2, (0.8, 0.95), 0.3, levels), list[Step]()
    x_0 = sampler.sample(
        prior, likelihood, generator=generator_for(1), x_T=x_T, on_step=steps.append
    )
    grid = schedule.timesteps(12)[:0:-1]
    assert [step.t for step in steps] == grid
    alphas, sigmas = (schedule.alpha, schedule.sigma) if levels == "prior" else ddpm_levels()
    eps = (x_T / schedule.sigma[-1]).flatten(1)
    for t, (mu, gradient) in zip(grid, seen, strict=True):
        s = schedule.noise_level[t]  # what the network is told
        inverse = torch.linalg.inv(covariance + s**2 * torch.eye(32, dtype=Double))
        flat = mu.flatten(1)
        z = (alphas[t] * flat + sigmas[t] * eps) / schedule.alpha[t]
        predicted = s * z @ inverse  # (z - D(z)) / s
        weight = 0.3 * sigmas[t] / alphas[t]
        expected = weight * (predicted - eps) - (likelihood.y.flatten(1) - flat @ SUM.T) @ SUM
        # (x - D) / s loses digits where s is small, 1e-16 / s of them, and the dense inverse too.
        torch.testing.assert_close(gradient.flatten(1), expected, rtol=1e-8, atol=1e-10)
        eps = torch.zeros_like(eps)
    start = likelihood.y.expand(-1, 4, -1) / (4 + likelihood.noise_std**2)  # damped_pinv(y)
    torch.testing.assert_close(seen[0][0], start)
    assert torch.equal(steps[-1].x_0, x_0)
    assert not torch.equal(steps[0].x_0, x_0)  # reports are not changed behind the reader's back


@pytest.mark.parametrize("noisy", [False, True])
def test_at_one_level_it_settles_on_the_map_estimate(
    prior: Prior,
    covariance: Tensor,
    likelihood: GaussianLikelihood,
    noisy: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """lambda = sigma_y^2 / s^2: argmax log N(mu; 0, C + s^2 I) + log N(y; A mu, sigma_y^2 I)."""
    s, noise_std, num_steps = 0.1, 0.1, 600 if noisy else 300
    likelihood, items = replace(likelihood, noise_std=noise_std), 3
    if noisy:
        # Adam is odd in its gradient, and the noise in that is symmetric: whatever law mu settles
        # into is symmetric about the point where the mean gradient vanishes.
        items = 300
        likelihood = replace(likelihood, y=likelihood.y[:1].expand(items, -1, -1))
    else:
        monkeypatch.setattr(reddiff, "randn_like", zeros)
    prior = replace(prior, schedule=one_level(s, num_steps + 1))
    sampler = REDDiff(num_steps, learning_rate=2e-3, strength=noise_std**2 / s**2)
    iterates: list[Tensor] = []
    x_T = torch.zeros(items, 4, 8, dtype=Double)
    sampler.sample(
        prior,
        likelihood,
        generator=generator_for(1),
        x_T=x_T,
        on_step=lambda step: iterates.append(step.x_0),
    )
    eye = torch.eye(32, dtype=Double)
    gain = (covariance + s**2 * eye) @ SUM.T
    gain = gain @ torch.linalg.inv(SUM @ gain + noise_std**2 * torch.eye(8, dtype=Double))
    estimate = (likelihood.y.flatten(1) @ gain.T).reshape(-1, 4, 8)
    expected = stationary(covariance, likelihood.y, s, noise_std**2 / s**2)
    torch.testing.assert_close(expected, estimate, rtol=0, atol=1e-12)
    start = likelihood.y.expand(-1, 4, -1) / 4
    assert float((start - estimate).abs().max()) > 0.03  # there was a way to go
    if noisy:
        found = torch.stack(iterates[200:]).mean(0)  # [items, 4, 8]
        error = (found - estimate).mean(0) / (found.std(0) / items**0.5)
        assert float(error.abs().max()) < 4.5  # 32 means over 300 chains
        assert float((found.mean(0) - estimate[0]).abs().max()) < 2e-3
    else:
        # Adam's own hunting, at a learning rate of 2e-3. A tenth more lambda would be .0017 away.
        assert float((iterates[-1] - estimate).abs().max()) < 1e-4


def test_over_the_whole_grid_y_has_the_last_word(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    """lambda_t falls to lambda sigma_1: the residual ends far below where its noise would."""
    x_0 = REDDiff(learning_rate=0.01).sample(prior, likelihood, generator=generator_for(0))
    assert float(likelihood.residual(x_0).abs().max()) < 0.01


def test_a_smooth_blur_does_not_blow_up_the_start() -> None:
    """|A^T (A A^T + s^2 I)^-1| <= 1 / (2 s), as v^2 + s^2 >= 2 v s of every singular value v."""
    blur, s = SeparableBlur(gaussian_kernel(3.0), (28, 28)), 0.05
    y = randn((2, 1, 28, 28), generator=generator_for(0))
    assert float(blur.pinv(y).norm()) > 1e3 * float(y.norm())
    prior = Prior(GaussianDenoiser(torch.eye(784)), NoiseSchedule.karras(), (1, 28, 28))
    steps: list[Step] = []
    sampler = REDDiff(2, learning_rate=1e-9)
    sampler.sample(prior, GaussianLikelihood(blur, y, s), generator=generator_for(0),
                   on_step=steps.append)  # fmt: skip
    for item, seen in zip(steps[0].x_0, y, strict=True):
        assert float(item.norm()) <= 1.001 * float(seen.norm()) / (2 * s)  # float32


def test_ddpm_s_levels_end_at_its_own(prior: Prior, likelihood: GaussianLikelihood) -> None:
    long = replace(prior, schedule=NoiseSchedule.karras(num_levels=1001))
    says = "DDPM has 1000 levels, this prior's schedule 1001; use levels = 'prior'"
    with pytest.raises(ValueError, match=says):
        REDDiff(levels="ddpm").sample(long, likelihood, generator=generator_for(0))
    short = replace(prior, schedule=NoiseSchedule.karras(num_levels=12))
    x_0 = REDDiff(12, levels="ddpm").sample(short, likelihood, generator=generator_for(0))
    assert bool(x_0.isfinite().all())


def test_without_a_linear_operator_it_starts_at_noise(prior: Prior) -> None:
    class Cube(Operator):
        def __call__(self, x: Tensor) -> Tensor:
            return x**3

    likelihood = GaussianLikelihood(Cube(), torch.zeros(500, 4, 8, dtype=Double), 0.1)
    steps: list[Step] = []
    sampler = REDDiff(2, learning_rate=1e-9)
    sampler.sample(prior, likelihood, generator=generator_for(0), on_step=steps.append)
    assert float(steps[0].x_0.std()) == pytest.approx(1, abs=0.02)  # 16000 draws, 4 errors


def test_it_costs_one_call_a_step_and_no_gradient(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    counter = CallCounter(prior.denoiser)
    load_preset("reddiff").sampler.sample(
        replace(prior, denoiser=counter), likelihood, generator=generator_for(0)
    )
    assert (counter.forward, counter.gradient) == (999, 0)


def test_the_preset_is_the_default() -> None:
    assert load_preset("reddiff").sampler == REDDiff()


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 1},
        {"learning_rate": 0.0},
        {"betas": (0.9, 1.0)},
        {"strength": -0.1},
        {"levels": "audio"},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"give|use one of"):
        REDDiff(**options)  # type: ignore[arg-type]
