"""A mixture with some sources or samples known: each against a dense matrix inverse."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.conditioning import KnownMixture, condition, samples
from mgdm_audio.diffusion.posterior import Identity, Posterior
from mgdm_audio.measurement import (
    GaussianLikelihood,
    KnownSources,
    LinearOperator,
    Mask,
    MixtureSum,
    SourceMatrix,
    Stacked,
)
from mgdm_audio.samplers import CovarianceMGDM, WienerGuidance
from tests.samplers.test_wiener import (
    SCHEDULE,
    SOURCES,
    TIME,
    DiagonalNetwork,
    conditional,
    generator,
    normal,
    prior_of,
)
from tests.toys import tiny_network

Double = torch.float64
SIZE = SOURCES * TIME
SOME = normal(SOURCES, TIME, seed=7) > 0.3
START = torch.arange(TIME).expand(SOURCES, -1) < 3  # what an earlier segment has drawn
MIXTURE = MixtureSum(SOURCES, [1.0, -0.5, 2.0])
OPERATORS: dict[str, LinearOperator] = {
    "sources": KnownSources([2, 0], SOURCES),
    "mixture, source": Stacked([MIXTURE, KnownSources([1], SOURCES)]),
    "sources, mixture": Stacked([KnownSources([2, 0], SOURCES), MixtureSum(SOURCES)]),
    "mixture, all sources": Stacked([MIXTURE, KnownSources([0, 1, 2], SOURCES)]),
    "samples": Mask(SOME),
    "mixture, samples": Stacked([MIXTURE, Mask(SOME)], [1, SOURCES]),
    "start, mixture": Stacked([Mask(START), MixtureSum(SOURCES)], [SOURCES, 1]),
}
each = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def dense(operator: LinearOperator) -> Tensor:
    """[observation, SIZE]"""
    return operator(torch.eye(SIZE, dtype=Double).reshape(SIZE, SOURCES, TIME)).flatten(1).T


def until_they_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The iterations for known samples under bands."""
    monkeypatch.setattr(samples, "MAX_STEPS", 200)
    monkeypatch.setattr(samples, "TOLERANCE", 1e-15)


def posterior_of(kind: str) -> tuple[Posterior, Tensor]:
    """Diagonal per sample or in a basis of time, and its covariance as a matrix."""
    network, mean = DiagonalNetwork(), torch.zeros(2, SOURCES, TIME, dtype=Double)
    if kind == "samples":
        return Posterior(mean, network.power[None], Identity()), torch.diag(network.power.flatten())
    return Posterior(mean, network.power[None, :, None], network), network.covariance


@each
@pytest.mark.parametrize("kind", ["samples", "bands"])
@pytest.mark.parametrize("spread", [None, 0.7])
@pytest.mark.parametrize("noise_std", [1e-2, 0.5])
def test_it_is_the_dense_inverse(
    operator: LinearOperator,
    kind: str,
    spread: float | None,
    noise_std: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    until_they_converge(monkeypatch)
    posterior, c = posterior_of(kind)
    a = dense(operator)
    r = operator(normal(2, SOURCES, TIME, seed=5))
    wide = c + (spread or 0) * c @ c
    total = a @ wide @ a.T + noise_std**2 * torch.eye(len(a), dtype=Double)
    want = r.flatten(1) @ torch.linalg.inv(total) @ a
    given = condition(operator, posterior, noise_std, spread)
    score = given.score(r).flatten(1)
    # A residual of ten rounding errors, times a condition of 1e5.
    torch.testing.assert_close(score, want, rtol=0, atol=1e-9 * float(want.abs().max()))
    found = given.shift(r).flatten(1)
    torch.testing.assert_close(found, want @ c, rtol=0, atol=1e-9)


def test_few_iterations_still_meet_what_is_known_and_the_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples, "MAX_STEPS", 1)
    posterior, c = posterior_of("bands")
    operator = OPERATORS["mixture, samples"]
    truth = normal(2, SOURCES, TIME, seed=5)
    found = condition(operator, posterior, 1e-4).shift(operator(truth))
    # sigma_y^2 over the smallest variance is what is left of a residual: 1e-7.
    assert (operator(found) - operator(truth)).abs().max() < 1e-6
    a = dense(operator)
    want = c @ a.T @ torch.linalg.inv(a @ c @ a.T + 1e-8 * torch.eye(len(a), dtype=Double))
    error = found.flatten(1) - operator(truth).flatten(1) @ want.T
    assert error.abs().max() > 1e-3  # it is not the exact conditional


@pytest.mark.parametrize("time", [20 * 64, 20 * 64 - 9])
def test_frames_that_nothing_known_touches_are_left_out_exactly(
    time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_they_converge(monkeypatch)
    network = tiny_network(0).double()
    mask = torch.zeros(2, 1, time, dtype=torch.bool)
    mask[0, :, :100], mask[1, :, 30:150] = True, True  # another place for each item
    mask[:, :, 700:800] = True
    mask[:, :, time - 1 :] = True
    known = KnownMixture(MixtureSum(4), Mask(mask))
    variance = network.band_variance(torch.tensor(0.5)).double().expand(2, -1, 21, -1)
    residual = known.join(normal(2, 1, time, seed=1), normal(2, 4, time, seed=2))

    class Whole:
        analysis, synthesis = network.analysis, network.synthesis

    near, _ = samples.score_coefficients(known, network, variance, residual, 1e-2)
    whole, _ = samples.score_coefficients(known, Whole(), variance, residual, 1e-2)
    assert samples._spans(known.mask_like(normal(2, 4, time)), 64) == [
        (0, 0, 3 * 64),
        (10, 10 * 64, 13 * 64),
        (19, 19 * 64, time),
    ]
    # The transform's tables have float32's seven digits.
    assert (near - whole).abs().max() < 1e-5 * whole.abs().max()


@each
def test_a_step_of_wiener_guidance_is_the_gaussian_conditional(
    operator: LinearOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_they_converge(monkeypatch)
    network = DiagonalNetwork()
    y, x_T = operator(normal(2, SOURCES, TIME, seed=2)), normal(2, SOURCES, TIME, seed=3)
    sampler = WienerGuidance(num_steps=1, noise_max=0.8, covariance="band")
    x_0 = sampler.sample(
        prior_of(network), GaussianLikelihood(operator, y, 0.3), generator=generator(), x_T=x_T
    )
    sigma = float(SCHEDULE.noise_level[SCHEDULE.nearest(0.8)])
    rows = torch.cat([torch.eye(SIZE, dtype=Double), dense(operator)])
    noise = torch.full((len(rows),), 0.3**2, dtype=Double)
    noise[:SIZE] = sigma**2
    z = (x_T * (sigma / SCHEDULE.sigma[-1])).flatten(1)
    want = conditional(network.covariance, rows, torch.diag(noise), torch.cat([z, y.flatten(1)], 1))
    # A residual of ten rounding errors, times a condition of 1e4.
    assert (x_0.flatten(1) - want).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("operator", "bound"),
    [(MIXTURE, 0.2), (OPERATORS["mixture, source"], 0.15), (OPERATORS["start, mixture"], 0.15)],
    ids=["mixture", "mixture, source", "start, mixture"],
)
def test_mgdm_s_exact_steps_reach_the_posterior(operator: LinearOperator, bound: float) -> None:
    """Relative error of the mean of 200 draws: .13, .11 and .08, of which chance makes .13, .05 and
    .04. For the mixture four seeds lie in .11 .. .17; with an isotropic covariance in .23 .. .28,
    and after one sweep in .27 .. .29."""
    network, n = DiagonalNetwork(), 200
    y = operator(normal(1, SOURCES, TIME, seed=2))
    sampler = CovarianceMGDM(
        num_steps=20,
        gibbs_steps=4,
        denoise_steps=8,
        covariance="band",
        gauss_step="exact",
        project=True,
    )
    likelihood = GaussianLikelihood(operator, y.expand(n, -1, -1), 0.1)
    draws = sampler.sample(prior_of(network), likelihood, generator=generator(4))
    a = dense(operator)
    noise = 0.1**2 * torch.eye(len(a), dtype=Double)
    want = conditional(network.covariance, a, noise, y.flatten(1))[0]
    error = draws.flatten(1) - want
    assert float(error.mean(0).norm()) < bound * float(want.norm())


@each
def test_split_and_join_are_each_other_s_inverse(operator: LinearOperator) -> None:
    parts = KnownMixture.of(operator)
    assert parts is not None
    y = operator(normal(2, SOURCES, TIME))
    assert torch.equal(parts.join(*parts.split(y)), y)


@pytest.mark.parametrize(
    "operator",
    [
        SourceMatrix(normal(2, SOURCES)),
        Stacked([MIXTURE, MIXTURE]),
        Stacked([MIXTURE, KnownSources([0], SOURCES), KnownSources([1], SOURCES)]),
        Stacked([MIXTURE, SourceMatrix(normal(2, SOURCES))]),
    ],
)
def test_other_operators_are_none_of_its_business(operator: Any) -> None:
    assert KnownMixture.of(operator) is None
