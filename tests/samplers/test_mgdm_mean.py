"""The mean of a chain: exact where everything is Gaussian, in expectation and in variance."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio import rng
from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior, counted
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import CovarianceMGDM, MeanMGDM, Step, WienerGuidance
from mgdm_audio.samplers.chain_mean import ChainMean

Double = torch.float64
CHAIN = MeanMGDM(
    num_steps=4,
    gibbs_steps=4,
    denoise_steps=15,
    covariance="reported",
    index_law="fixed",
    mean_max=3.0,
    refine_from=3.0,
)
"""Three levels, sigma_t = 20, 8.6 and 2.7, of which the last two, with sigma_s = 2.7 and .4, count;
after a start the last alone. The prior's rms is .1, so that a sweep there forgets nearly all."""


@pytest.fixture
def one(likelihood: GaussianLikelihood) -> GaussianLikelihood:
    return replace(likelihood, y=likelihood.y[:1])


def exact(prior: Prior, likelihood: GaussianLikelihood) -> tuple[Tensor, Tensor]:
    """E[x_0 | y], [1, sources, time], and Cov(x_0 | y), [32, 32], of the one mixture y."""
    c = prior.denoiser.covariance  # type: ignore[attr-defined]
    sources, time = prior.event_shape
    a = torch.kron(torch.ones(1, sources), torch.eye(time)).double()
    noise = likelihood.noise_std**2 * torch.eye(time).double()
    k = c @ a.T @ torch.linalg.inv(a @ c @ a.T + noise)
    return (k @ likelihood.y[0].flatten()).reshape(1, sources, time), c - k @ a @ c


def many(likelihood: GaussianLikelihood, n: int) -> GaussianLikelihood:
    return replace(likelihood, y=likelihood.y.expand(n, -1, -1))


@pytest.fixture
def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """All conditionals of a linear Gaussian problem are affine in what they are given, so that the
    run whose noise is 0 is the expectation of all runs (with these s)."""
    monkeypatch.setattr(
        rng, "randn", lambda shape, generator, dtype, device: torch.zeros(tuple(shape), dtype=dtype)
    )


def expected(sampler: MeanMGDM, prior: Prior, likelihood: Any, start: Tensor | None) -> Tensor:
    zero = torch.zeros(len(likelihood.y), *prior.event_shape, dtype=Double)
    return sampler.sample(prior, likelihood, generator=generator_for(0), x_T=zero, start=start)


@pytest.mark.parametrize("kind", ["reported", "jacobian"])
def test_a_sweep_gives_the_exact_mean_of_x_0_given_x_s_and_y(
    prior: Prior, one: GaussianLikelihood, kind: Any
) -> None:
    """By dense matrices: x_0 ~ N(0, C) given x_s = alpha x_0 + sigma eps and y = A x_0 + noise.

    To rounding; "jacobian" to 20 steps of conjugate gradients.
    """
    s = 500
    x_s = torch.randn(1, 4, 8, generator=generator_for(0), dtype=Double)
    mean = ChainMean(generator_for(0))
    sampler = replace(CHAIN, covariance=kind)
    known = sampler._averaged(mean, prior, one, x_s, torch.tensor([s]), generator_for(0))
    c = prior.denoiser.covariance  # type: ignore[attr-defined]
    alpha, sigma = (float(v[s]) for v in (prior.schedule.alpha, prior.schedule.sigma))
    a = torch.kron(torch.ones(1, 4), torch.eye(8)).double()
    rows = torch.cat([alpha * torch.eye(32).double(), a])
    noise = torch.diag(torch.tensor([sigma**2] * 32 + [one.noise_std**2] * 8, dtype=Double))
    seen = torch.cat([x_s.flatten(), one.y.flatten()])
    want = c @ rows.T @ torch.linalg.solve(rows @ c @ rows.T + noise, seen)
    assert mean.value is not None
    bound = {"reported": 1e-12, "jacobian": 1e-6}[kind]
    torch.testing.assert_close(mean.value.flatten(), want, rtol=0, atol=bound)
    # And D(x_s), in the prior's next call and in no other.
    d_s = prior.predict_x0(x_s, s)
    torch.testing.assert_close(known.predict_x0(0 * x_s, s), d_s, rtol=0, atol=1e-15)
    assert torch.equal(known.predict_x0(0 * x_s, s), 0 * x_s)


@pytest.mark.usefixtures("without_noise")
@pytest.mark.parametrize("begin", ["noise", "silence", "loud", "the posterior mean"])
def test_the_mean_of_a_chain_tends_to_the_posterior_mean_wherever_it_begins(
    prior: Prior, one: GaussianLikelihood, begin: str
) -> None:
    """What a chain remembers of its start dies out geometrically from sweep to sweep, so that the
    average over R of them errs by c / R: from R = 8 on, to 1 %."""
    want, _ = exact(prior, one)
    loud = torch.randn(want.shape, generator=generator_for(1), dtype=Double)
    starts = {"noise": None, "silence": 0 * loud, "loud": loud, "the posterior mean": want}
    errors = []
    for sweeps in (8, 32):
        sampler = replace(CHAIN, denoise_steps=2, gibbs_steps=sweeps)
        found = expected(sampler, prior, one, starts[begin])
        errors.append(float((found - want).norm() / want.norm()))
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.01)
    assert errors[1] < (0.1 if begin == "loud" else 0.005)  # "loud" is 20 times the mean


def test_a_mean_has_the_posterior_s_mean_and_little_of_a_draw_s_variance(
    prior: Prior, one: GaussianLikelihood
) -> None:
    """32 means over 500 chains within five standard errors. (Their bias is a hundredth of that.)"""
    n = 500
    want, covariance = exact(prior, one)
    ratios = []
    for sweeps in (2, 16):
        sampler = replace(CHAIN, gibbs_steps=sweeps, denoise_steps=5)
        x = sampler.sample(prior, many(one, n), generator=generator_for(2))
        assert ((x.mean(0) - want[0]).abs() < 5 * x.std(0) / n**0.5).all()
        ratios.append(float(x.flatten(1).var(0).sum() / covariance.trace()))
    assert ratios[0] < 0.1
    # Sweeps that forgot all would give an eighth; of 500 chains a variance is known to 6 %.
    assert ratios[1] < ratios[0] / 6


def test_chains_and_sweeps_make_up_the_posterior_s_variance(
    prior: Prior, one: GaussianLikelihood
) -> None:
    """The law of total variance: Var(mean) over chains + E[deviation^2] = Var(x_0 | y).

    32 variances of 2000 within five standard errors; in sum 4 % less, which 15 points of DDIM lose
    (5 points: 8 %).
    """
    n, steps = 2000, list[Step]()
    _, covariance = exact(prior, one)
    sampler = replace(CHAIN, mean_min=0.02, num_steps=8)
    x = sampler.sample(prior, many(one, n), generator=generator_for(3), on_step=steps.append)
    assert all(step.deviation is None for step in steps[:-1])
    deviation = steps[-1].deviation
    assert deviation is not None
    between, within = x.flatten(1).var(0), deviation.flatten(1).square().mean(0)
    ratio = (between + within) / covariance.diag()
    assert ((ratio - 1).abs() < 5 * (2 / n) ** 0.5).all()
    assert float(ratio.mean()) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    "options", [{}, {"gibbs_steps": 1, "index_law": "mu0", "eta": 0.5}, {"project": True}]
)
def test_the_draw_is_that_of_mgdm_bit_by_bit(
    prior: Prior, likelihood: GaussianLikelihood, options: dict[str, Any]
) -> None:
    options = {"num_steps": 8, "gibbs_steps": 2, "covariance": "reported", **options}
    want, found = (
        sampler.sample(prior, likelihood, generator=generator_for(4))
        for sampler in (CovarianceMGDM(**options), MeanMGDM(estimate="draw", **options))
    )
    assert torch.equal(found, want)


def test_a_mean_costs_no_call_more_than_a_draw(prior: Prior, one: GaussianLikelihood) -> None:
    calls = {}
    for estimate in ("draw", "mean"):
        known, counter = counted(prior)
        sampler = replace(CHAIN, estimate=estimate, mean_min=0.0)  # type: ignore[arg-type]
        sampler.sample(known, one, generator=generator_for(0))
        calls[estimate] = counter.counts
    assert calls["mean"] == calls["draw"]


@pytest.mark.parametrize("law", ["mu*", "mu0", "fixed"])
def test_levels_that_cannot_be_averaged_are_not_run(
    prior: Prior, one: GaussianLikelihood, law: Any
) -> None:
    sampler = replace(CHAIN, num_steps=20, gibbs_steps=1, denoise_steps=2, index_law=law)
    noise, grid = prior.schedule.noise_level, prior.schedule.timesteps(21)[::-1]
    steps: list[Step] = []
    sampler.sample(prior, one, generator=generator_for(0), on_step=steps.append)
    run = [
        t
        for t, s in pairwise(grid)
        if noise[max(1, s // 5 - 1) if law == "mu0" else s] >= 0.1
    ]
    assert [step.t for step in steps] == run
    assert 0 < len(run) < 19
    # From a start: the first level at or below refine_from, and as many below it.
    sampler = replace(sampler, refine_from=1.0)
    if law != "mu0":
        levels = [t for _, t, _ in sampler.levels(prior, started=True)]
        assert levels == [t for t in run if noise[t] <= 1.0]
        assert 1 < len(levels) < len(run)


@pytest.mark.usefixtures("without_noise")
def test_just_above_no_noise_a_start_comes_back_projected(one: GaussianLikelihood) -> None:
    """For white x_0 of variance 1 every sweep moves it by O(sigma^2) = 4e-6 beside the projection,
    and there are 20 or so."""
    prior = Prior(GaussianDenoiser(torch.eye(32)), NoiseSchedule.karras(), (4, 8))
    start = 0.2 * torch.randn(1, 4, 8, generator=generator_for(5), dtype=Double)
    sampler = replace(CHAIN, num_steps=300, mean_min=0.0, refine_from=0.002, denoise_steps=2)
    likelihood = replace(one, noise_std=1e-6)
    found = expected(sampler, prior, likelihood, start)
    want = start + MixtureSum(4).pinv(likelihood.residual(start))
    torch.testing.assert_close(found, want, rtol=0, atol=1e-4)
    assert float((want - start).abs().max()) > 0.1


def test_an_item_averages_its_own_sweeps_or_has_its_last() -> None:
    m = torch.arange(1.0, 13).reshape(4, 3, 1)  # [sweep, item, event]
    counts = [[True, False, False], [False, False, False], [True, False, True], [False] * 3]
    mean = ChainMean(generator_for(0))
    seen = []
    for value, count in zip(m, counts, strict=True):
        mean.add(value, None, torch.tensor(count))
        assert mean.value is not None
        seen.append(mean.value.flatten().tolist())
    assert seen == [[1, 2, 3], [1, 5, 6], [4, 8, 9], [4, 11, 9]]
    assert mean.deviation is None


def test_the_deviation_is_a_draw_of_any_sweep_that_counts() -> None:
    """Of three sweeps that count each in a third of 9000 items, within five standard errors."""
    n, mean = 9000, ChainMean(generator_for(0))
    for value, counts in ((1.0, True), (10.0, False), (2.0, True), (4.0, True), (20.0, False)):
        draw = torch.full((n, 1), value)
        mean.add(torch.zeros(n, 1), draw, torch.full((n,), counts))
    assert mean.deviation is not None
    found = mean.deviation.flatten()
    shares = torch.stack([(found == value).float().mean() for value in (1.0, 2.0, 4.0)])
    assert float(shares.sum()) == pytest.approx(1, abs=1e-6)
    assert ((shares - 1 / 3).abs() < 5 * (2 / 9 / n) ** 0.5).all()


def test_the_covariance_must_be_measured_for_a_deviation(
    prior: Prior, one: GaussianLikelihood
) -> None:
    for covariance in ("isotropic", "jacobian"):
        sampler = replace(CHAIN, covariance=covariance, gibbs_steps=1)  # type: ignore[arg-type]
        *_, last = sampler.steps(prior, one, generator=generator_for(0))
        assert last.deviation is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"noising": "bridge"}, "noising = 'forward'"),
        ({"outer": "code"}, "outer = 'paper'"),
        ({"covariance": "none", "gauss_step": "variational"}, "needs a covariance"),
        ({"project": True}, "project = false"),
        ({"mean_min": 2.0}, "mean_min <= mean_max"),
        ({"mean_min": -1.0}, "mean_min <= mean_max"),
        ({"refine_from": 0.0}, "refine_from = 0: give a noise level above 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MeanMGDM(**options)


def test_levels_that_are_none_are_refused(prior: Prior, one: GaussianLikelihood) -> None:
    start = torch.zeros(1, *prior.event_shape, dtype=Double)
    cases = [
        (replace(CHAIN, refine_from=1e-4), r"refine_from = 0.0001: give at least 2.7"),
        (replace(CHAIN, mean_min=0.9), r"mean_min = 0.9: give at most 0.395"),
    ]
    for sampler, says in cases:
        with pytest.raises(ValueError, match=says):
            sampler.sample(prior, one, generator=generator_for(0), start=start)
    with pytest.raises(PairingError, match="WienerGuidance starts from noise: it takes no start"):
        WienerGuidance().sample(prior, one, generator=generator_for(0), start=start)
