"""MSDM's separators: each drift against the score it stands for, and the ODE around it."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, GaussianDenoiser, NoiseSchedule, Prior, join
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import GaussianLikelihood, KnownSources, MixtureSum
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.samplers import MSDM, Step
from mgdm_audio.samplers.presets import load_preset

POSTERIORS: list[Literal["dirac", "gaussian"]] = ["dirac", "gaussian"]
WEIGHTS = (0.5, -2.0, 1.0, 0.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return randn(shape, generator=generator_for(seed), dtype=torch.float64)


def minus_log_p(x: Tensor, covariance: Tensor, sigma: float) -> Tensor:
    """Of the noisy prior N(0, C + sigma^2 I), summed over the batch."""
    noisy = covariance + sigma**2 * torch.eye(len(covariance), dtype=torch.float64)
    return 0.5 * (x.flatten(1) @ torch.linalg.inv(noisy) * x.flatten(1)).sum()


@pytest.mark.parametrize("source", [0, 2])
@pytest.mark.parametrize("weights", [(1.0,) * 4, WEIGHTS])
def test_dirac_follows_the_score_of_the_sources_that_are_free(
    prior: Prior, covariance: Tensor, weights: tuple[float, ...], source: int
) -> None:
    """-sigma grad of log p(x_free, x_j = (y - sum w_k x_k) / w_j), by autograd."""
    sigma, y, x = 0.2, normal(2, 1, 8), normal(2, 4, 8, seed=1)
    operator = MixtureSum(4, weights)
    sampler = MSDM(source=source)
    state = sampler._derive(operator, y, x)
    drift = sampler._drift(prior, operator, y, state, sigma)

    free = x.clone().requires_grad_()
    others = sum(weights[k] * free[:, k] for k in range(4) if k != source)
    parts = [free[:, k] for k in range(4)]
    parts[source] = (y[:, 0] - others) / weights[source]
    whole = torch.stack(parts, 1)
    (gradient,) = torch.autograd.grad(minus_log_p(whole, covariance, sigma), free)
    torch.testing.assert_close(state, whole.detach())
    torch.testing.assert_close(drift, sigma * gradient, rtol=0, atol=1e-9)
    assert float(drift[:, source].abs().max()) < 1e-12
    assert float(drift.abs().max()) > 0.1


@pytest.mark.parametrize("weights", [(1.0,) * 4, WEIGHTS])
def test_gaussian_follows_the_score_of_its_likelihood(
    prior: Prior, covariance: Tensor, weights: tuple[float, ...]
) -> None:
    """-sigma grad of log p(x) N(y; A x, (gamma sigma)^2), by autograd."""
    sigma, gamma, y = 0.2, 0.6, normal(2, 1, 8)
    operator = MixtureSum(4, weights)
    x = normal(2, 4, 8, seed=1).requires_grad_()
    minus_log_g = (y - operator(x)).square().sum() / (2 * (gamma * sigma) ** 2)
    (gradient,) = torch.autograd.grad(minus_log_p(x, covariance, sigma) + minus_log_g, x)
    sampler = MSDM("gaussian", gamma=gamma)
    assert torch.equal(sampler._derive(operator, y, x), x)
    drift = sampler._drift(prior, operator, y, x.detach(), sigma)
    torch.testing.assert_close(drift, sigma * gradient, rtol=0, atol=1e-9)


def test_the_gaussian_preset_takes_the_published_code_s_steps(prior: Prior) -> None:
    """There gamma is .75 and the coefficient half as large."""
    sampler, sigma = load_preset("msdm-gaussian").sampler, 0.2
    assert isinstance(sampler, MSDM)
    assert sampler.gamma == pytest.approx(MSDM().gamma, rel=1e-15)
    operator, y, x = MixtureSum(4), normal(2, 1, 8), normal(2, 4, 8, seed=1)
    level = torch.tensor(sigma, dtype=torch.float64)
    published = (x - prior.denoiser(x, level)) / sigma
    published = published - sigma / (2 * (0.75 * sigma) ** 2) * (y - operator(x))
    drift = sampler._drift(prior, operator, y, x, sigma)
    # The two round differently in a sum of terms of size 10.
    torch.testing.assert_close(drift, published, rtol=0, atol=1e-13)


def test_dirac_sums_to_the_mixture_at_every_step(prior: Prior) -> None:
    operator, steps = MixtureSum(4, WEIGHTS), list[Step]()
    likelihood = GaussianLikelihood(operator, normal(3, 1, 8), 1.0)  # noise_std plays no part
    sampler = MSDM(num_steps=20, source=1)
    x = sampler.sample(prior, likelihood, generator=generator_for(0), on_step=steps.append)
    assert len(steps) == 20
    for step in steps:
        state = step.x_t / prior.schedule.alpha[step.t]
        assert float(likelihood.residual(state).abs().max()) < 1e-12
        assert float(likelihood.residual(step.x_0).abs().max()) < 1e-12
    assert float(likelihood.residual(x).abs().max()) < 1e-12
    torch.testing.assert_close(steps[-1].x_t / prior.schedule.alpha[steps[-1].t], x)


@pytest.mark.parametrize("resamples", [1, 3])
@pytest.mark.parametrize("churn", [0.0, 4.0, 1000.0])
def test_churn_and_resampling_keep_the_noise_of_every_level(resamples: int, churn: float) -> None:
    """Where x_0 = 0 and nothing is observed, x is noise of variance sigma^2 at each level."""
    steps = list[Step]()
    prior = Prior(lambda x, sigma: 0 * x, NoiseSchedule.karras(), (2, 2000))  # type: ignore
    likelihood = GaussianLikelihood(MixtureSum(2), torch.zeros(1, 1, 2000).double(), 1.0)
    sampler = MSDM(
        "gaussian", 8, resamples, s_churn=churn, gamma=1e9, sigma_min=0.05, sigma_max=0.8
    )
    sampler.sample(prior, likelihood, generator=generator_for(0), on_step=steps.append)
    for step, sigma in zip(steps[:-1], sampler.levels[1:-1], strict=True):
        variance = float((step.x_t / prior.schedule.alpha[step.t]).square().mean())
        # 4000 squares: 4.5 standard errors. Without a single resample, or with the churn left out
        # of the step, it would be off by a factor.
        assert abs(variance / sigma**2 - 1) < 4.5 * (2 / 4000) ** 0.5
        assert step.t == prior.schedule.nearest(sigma)
    assert float(steps[-1].x_t.abs().max()) < 1e-12  # the last step goes to 0


def test_levels_are_edm_s() -> None:
    levels = MSDM().levels
    assert len(levels) == 151
    assert (levels[0], levels[-2], levels[-1]) == pytest.approx((1.0, 1e-4, 0.0))
    roots = torch.tensor(levels[:-1]).double() ** (1 / 7)
    torch.testing.assert_close(roots.diff(), (roots[-1] - roots[0]).expand(149) / 149)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_it_costs_a_call_a_visit_and_no_gradient(
    prior: Prior, likelihood: GaussianLikelihood, posterior: Literal["dirac", "gaussian"]
) -> None:
    counter = CallCounter(prior.denoiser)
    counted = Prior(counter, prior.schedule, prior.event_shape)
    MSDM(posterior, 7, 3).sample(counted, likelihood, generator=generator_for(0))
    assert (counter.forward, counter.gradient) == (21, 0)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_on_joined_priors_it_is_isdm(posterior: Literal["dirac", "gaussian"]) -> None:
    """One prior a source, joined, separates as the block-diagonal prior of all of them does."""
    blocks = [0.01 * (root @ root.T) for root in (normal(8, 8, seed=k) for k in range(3))]
    schedule = NoiseSchedule.karras()
    joined = join([Prior(GaussianDenoiser(c), schedule, (1, 8)) for c in blocks])
    whole = Prior(GaussianDenoiser(torch.block_diag(*blocks)), schedule, (3, 8))
    likelihood = GaussianLikelihood(MixtureSum(3), normal(2, 1, 8, seed=5), 1e-4)
    sampler = MSDM(posterior, 20, s_churn=4.0)
    one, other = (
        sampler.sample(p, likelihood, generator=generator_for(0)) for p in (joined, whole)
    )
    # Two eigendecompositions differ by rounding errors, which forty calls do not grow much.
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_dirac_needs_a_mixture_and_a_source_in_it(prior: Prior) -> None:
    seen = GaussianLikelihood(KnownSources([0], 4), normal(1, 1, 8), 0.1)
    with pytest.raises(PairingError, match=r"MSDM\(dirac\) needs a MixtureSum, got KnownSources"):
        MSDM(num_steps=2).sample(prior, seen, generator=generator_for(0))
    x = MSDM("gaussian", num_steps=2).sample(prior, seen, generator=generator_for(0))
    assert x.shape == (1, 4, 8)
    for source in (3, 4, -1):
        likelihood = GaussianLikelihood(MixtureSum(4, WEIGHTS), normal(1, 1, 8), 0.1)
        with pytest.raises(ValueError, match=r"source = .*\[0, 1, 2\]"):
            MSDM(source=source).sample(prior, likelihood, generator=generator_for(0))


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 1},
        {"num_resamples": 0},
        {"sigma_min": 0.0},
        {"sigma_min": 2.0},
        {"rho": 0.0},
        {"gamma": 0.0},
        {"s_churn": -1.0},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        MSDM(**options)
