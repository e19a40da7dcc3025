"""MGDM part by part: its levels, its indices, its costs, and each Gibbs conditional."""

import math
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, NoiseSchedule, Prior, bridge
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import MGDM, PerStep, Step, mgdm
from mgdm_audio.samplers.presets import load_preset

KARRAS = NoiseSchedule.karras()


class Silence:
    """The denoiser of x_0 = 0: every state is pure noise, and the potential is flat."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return 0 * x


def silent(batch: int = 1) -> tuple[Prior, GaussianLikelihood]:
    y = torch.zeros(batch, 1, 1, dtype=torch.float64)
    return Prior(Silence(), KARRAS, (2, 1)), GaussianLikelihood(MixtureSum(2), y, 1.0)


IMAGES = MGDM(
    num_steps=100,
    gibbs_steps=1,
    denoise_steps=20,
    vi_steps=PerStep(3, last=(10, 20)),
    threshold=0.3,
    noising="bridge",
    outer="code",
)


@pytest.mark.parametrize(
    ("sampler", "forward", "gradient"),
    [
        (load_preset("mgdm-code").sampler, 1429, 1020),
        (load_preset("mgdm-code", ["gibbs_steps=1"]).sampler, 239, 170),
        (load_preset("mgdm-code", ["gibbs_steps=1", "vi_steps=90"]).sampler, 239, 1530),
        # Published as "about 1830": where s < M - 1 its code makes fewer calls, ours repeats one.
        (IMAGES, 1 + 97 * 19, 410),
        # The paper's own loop: 19 levels, of which i = 5 .. 2 take 20 gradient steps.
        (MGDM(), 1 + 19 * 6 * 14, 6 * (15 * 3 + 4 * 20)),
    ],
    ids=["code", "code R=1", "code R=1 G=90", "code images", "paper"],
)
def test_it_costs_what_was_published(sampler: MGDM, forward: int, gradient: int) -> None:
    prior, likelihood = silent()
    counter = CallCounter(prior.denoiser)
    counted = Prior(counter, prior.schedule, prior.event_shape)
    sampler.sample(counted, likelihood, generator=generator_for(0))
    assert (counter.forward, counter.gradient) == (forward, gradient)


def test_the_levels_are_the_published_ones() -> None:
    prior, likelihood = silent()
    visited: dict[str, list[int]] = {"code": [], "paper": []}
    for outer, levels in visited.items():
        MGDM(gibbs_steps=1, outer=outer).sample(  # type: ignore[arg-type]
            prior,
            likelihood,
            generator=generator_for(0),
            on_step=lambda step, levels=levels: levels.append(step.t),  # type: ignore[misc]
        )
    assert visited["code"] == KARRAS.timesteps(20)[18:1:-1]  # 946 .. 105: 17 of 20 points
    assert visited["paper"] == KARRAS.timesteps(21)[20:1:-1]  # i = K .. 2: 19 of 21 points
    assert (visited["code"][0], visited["code"][-1]) == (946, 105)
    assert (visited["paper"][0], len(visited["paper"])) == (999, 19)


def test_the_inner_grid_is_the_published_one_but_for_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch.linspace counts in floating-point steps, from either end to the middle, and the
    published code floors its points: 58 / 14 * 7 becomes 28, not 29."""
    seen: list[list[int]] = []

    def ddim(prior: Prior, x: Tensor, levels: list[Tensor | int], **_: object) -> Tensor:
        seen.extend(torch.stack([torch.as_tensor(n).expand(1000) for n in levels], -1).tolist())
        return x

    monkeypatch.setattr(mgdm, "ddim", ddim)
    prior, _ = silent(1000)
    MGDM()._denoise(prior, torch.zeros(1000, 2, 1), torch.arange(1000), generator_for(0))
    gaps = {}
    for s in range(14, 1000):  # below, the 15 points of the grid repeat levels
        step = s / 14
        floats = [step * j for j in range(7)] + [s - step * j for j in range(7, -1, -1)]
        gaps[s] = [a - math.floor(b) for a, b in zip(seen[s][::-1], floats, strict=True)]
    rounded = [gap for gap in gaps.values() if any(gap)]
    assert len(rounded) == 17
    assert all(sorted(gap) == [0] * 14 + [1] for gap in rounded)


def indices(sampler: MGDM, k: int, t_prev: int) -> Tensor:
    return sampler._draw_index(k, t_prev, 4000, generator_for(k))


@pytest.mark.parametrize(
    ("sampler", "last_mixed"),
    [(MGDM(), 14), (load_preset("mgdm-code").sampler, 12), (IMAGES, 69)],
    ids=["paper: i > 5", "code: k < 13", "images: k < 70"],
)
def test_mu_star_mixes_high_up_and_then_stays_close(sampler: MGDM, last_mixed: int) -> None:
    mixed = indices(sampler, last_mixed, 50)
    assert set(mixed.tolist()) == set(range(10, 51))  # both ends are reached
    assert set(indices(sampler, last_mixed + 1, 50).tolist()) == {50}


@pytest.mark.parametrize(
    ("law", "t_prev", "expected"),
    [
        ("uniform", 13, {10, 11, 12, 13}),
        ("uniform", 7, {7}),  # an empty interval is its upper end
        ("mu*", 7, {7}),
        ("fixed", 13, {13}),
        ("mu0", 21, {1, 2, 3}),
        ("mu0", 4, {1}),
        ("uniform", 1, {1}),
    ],
)
def test_every_law_stays_between_1_and_the_level_below(
    law: str, t_prev: int, expected: set[int]
) -> None:
    assert set(indices(MGDM(index_law=law), 0, t_prev).tolist()) == expected  # type: ignore


def test_all_sweeps_of_a_level_share_its_index(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    seen = []

    class Recorder(CallCounter):
        def __call__(self, x: Tensor, sigma: Tensor, *rest: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                seen.append(tuple(sigma.tolist()))
            return super().__call__(x, sigma, *rest)

    recorded = Prior(Recorder(prior.denoiser), prior.schedule, prior.event_shape)
    MGDM(gibbs_steps=4, vi_steps=PerStep(2)).sample(
        recorded, likelihood, generator=generator_for(0)
    )
    per_level = [seen[i : i + 8] for i in range(0, len(seen), 8)]
    assert len(per_level) == 19
    assert all(len(set(sigmas)) == 1 for sigmas in per_level)
    assert any(len(set(sigmas[0])) > 1 for sigmas in per_level)  # but every item has its own


def repeated(x: Tensor, n: int) -> Tensor:
    return x.expand(n, *x.shape[1:])


@pytest.fixture
def state(prior: Prior) -> dict[str, Tensor]:
    generator = generator_for(0, "state")
    x_T = prior.sample_x_T(2, generator=generator, dtype=torch.float64)
    return {"x_0": 0.1 * x_T[:1], "x_t": 0.8 * x_T[1:]}


def test_the_fit_reaches_the_gaussian_it_approximates(
    prior: Prior, likelihood: GaussianLikelihood, state: dict[str, Tensor]
) -> None:
    """Conditional (a). D is linear, so x_s given (x_0, x_t, y) is N(m*, L^-1) in closed form, and
    the best factorised Gaussian has its mean m* and the variances 1 / diag(L)."""
    n, t, s, noise_std = 1000, 400, 250, 0.03
    sampler = MGDM(vi_steps=PerStep(400), learning_rate=PerStep(0.01))
    likelihood = GaussianLikelihood(MixtureSum(4), repeated(likelihood.y[:1], n), noise_std)
    x_0, x_t = repeated(state["x_0"], n), repeated(state["x_t"], n)
    draws = sampler._fit_and_draw(
        prior, likelihood, x_0, x_t, torch.full((n,), s), t, 0, generator_for(1)
    ).flatten(1)

    eye = torch.eye(32, dtype=torch.float64).reshape(32, 4, 8)
    a_d = MixtureSum(4)(prior.predict_x0(eye, s)).flatten(1).T  # [8, 32]
    kernel = bridge(KARRAS, 0, s, t)
    m = kernel.mean(state["x_0"], state["x_t"]).flatten()
    precision = eye.reshape(32, 32) / kernel.std**2 + a_d.T @ a_d / noise_std**2
    y = likelihood.y[0].flatten()
    mean = torch.linalg.solve(precision, m / kernel.std**2 + a_d.T @ y / noise_std**2)
    std = precision.diag().rsqrt()

    # The potential matters here: it moves the mean by near three standard deviations and halves
    # the spread.
    assert float(((m - mean) / std).abs().max()) > 2.5
    assert float((kernel.std / std).max()) > 1.9
    # 1000 draws know a mean to 3.2 % of a standard deviation and a standard deviation to 2.2 %.
    # Adam's own jitter widens the spread by 2 % on average and by up to 5 % (its step is 4 % of a
    # standard deviation). Bounds of four standard errors plus that; halving the potential's
    # gradient, or dropping the entropy's, misses them by far.
    assert float(((draws.mean(0) - mean) / std).abs().max()) < 0.13
    excess = draws.std(0) / std - 1
    assert float(excess.abs().max()) < 0.15
    assert abs(float(excess.mean())) < 0.04


def test_without_gradient_steps_it_draws_from_the_bridge(
    prior: Prior, likelihood: GaussianLikelihood, state: dict[str, Tensor]
) -> None:
    n, t, s = 4000, 400, 250
    likelihood = GaussianLikelihood(MixtureSum(4), repeated(likelihood.y[:1], n), 0.05)
    x_0, x_t = repeated(state["x_0"], n), repeated(state["x_t"], n)
    draws = MGDM(vi_steps=PerStep(0))._fit_and_draw(
        prior, likelihood, x_0, x_t, torch.full((n,), s), t, 0, generator_for(1)
    )
    kernel = bridge(KARRAS, 0, s, t)
    z = ((draws - kernel.mean(state["x_0"], state["x_t"])) / kernel.std).flatten(1)
    # 32 means and variances of 4000 draws: 4.5 standard errors each.
    assert float(z.mean(0).abs().max()) < 4.5 / n**0.5
    assert float((z.var(0) - 1).abs().max()) < 4.5 * (2 / n) ** 0.5


@pytest.mark.parametrize("s", [1, 10, 250, 946])
@pytest.mark.parametrize("points", [1, 2, 15])
def test_x_0_is_drawn_by_ddim_on_the_integer_grid(
    prior: Prior, covariance: Tensor, state: dict[str, Tensor], s: int, points: int
) -> None:
    """Conditional (b): moments by the linear recursion over the distinct levels of the grid."""
    n = 3000
    draws = MGDM(denoise_steps=points)._denoise(
        prior, repeated(state["x_t"], n), torch.full((n,), s), generator_for(2)
    )
    c, basis = torch.linalg.eigh(covariance)
    mean, variance = state["x_t"].flatten() @ basis, torch.zeros(32, dtype=torch.float64)
    count = max(2, min(points, s + 1))
    levels = [j * s // (count - 1) for j in range(count)][::-1]
    for u, t in pairwise(levels):
        shrink = c / (c + KARRAS.noise_level[u] ** 2) / KARRAS.alpha[u]
        kernel = bridge(KARRAS, 0, t, u)
        factor = kernel.c_s * shrink + kernel.c_u
        mean, variance = factor * mean, factor**2 * variance + kernel.std**2
    z = draws.flatten(1) @ basis
    if points <= 2 or s == 1:  # one step, straight to the denoised state: nothing is random
        torch.testing.assert_close(z, mean.expand_as(z), rtol=0, atol=1e-12)
    else:
        assert float(((z.mean(0) - mean) / variance.sqrt()).abs().max()) < 4.5 / n**0.5
        assert float((z.var(0) / variance - 1).abs().max()) < 4.5 * (2 / n) ** 0.5


class Kernel(NamedTuple):
    c_s: float
    c_u: float
    std: float


def kernel(s: int, t: int, u: int, eta: float = 1.0) -> Kernel:
    return Kernel(*map(float, bridge(KARRAS, s, t, u, eta)))


@pytest.mark.parametrize("noising", ["forward", "bridge"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("outer", ["code", "paper"])
def test_noising_follows_its_kernel(noising: str, eta: float, outer: str) -> None:
    """Conditional (c). In silence a level is a linear map of the one above, plus noise: x_t drawn
    at eta, then x_s, then x_t again by the kernel of (c), in which eta has no say. The paper's
    first level is the top itself: x_T is its x_t, and (c) has no level above to lean on."""
    batch = 4000
    prior, likelihood = silent(batch)
    steps: list[Step] = []
    sampler = MGDM(
        gibbs_steps=1,
        vi_steps=PerStep(0),
        index_law="fixed",
        eta=eta,
        outer=outer,  # type: ignore[arg-type]
        noising=noising,  # type: ignore[arg-type]
    )
    x_T = prior.sample_x_T(batch, generator=generator_for(3), dtype=torch.float64)
    sampler.sample(prior, likelihood, generator=generator_for(4), x_T=x_T, on_step=steps.append)
    n = 2 * batch
    grid = KARRAS.timesteps(20)[::-1] if outer == "code" else KARRAS.timesteps(21)[::-1]
    above, v_next = x_T, float(KARRAS.sigma[-1]) ** 2
    for k, step in enumerate(steps):
        top = outer == "paper" and k == 0
        t_next, t, s = (grid[0], *grid[:2]) if top else grid[k - (outer == "paper") :][:3]
        first = Kernel(0, 1, 0) if top else kernel(0, t, t_next, eta)
        second, third = kernel(0, s, t), kernel(s, t, t_next)
        v_s = second.c_u**2 * (first.c_u**2 * v_next + first.std**2) + second.std**2
        c_s = second.c_u * first.c_u * v_next  # covariance of x_s with the level above
        if noising == "forward" or top:
            r = float(KARRAS.alpha[t] / KARRAS.alpha[s])
            v = r**2 * v_s + float(KARRAS.sigma[t]) ** 2 - r**2 * float(KARRAS.sigma[s]) ** 2
            c = r * c_s
        else:
            v = third.c_s**2 * v_s + third.c_u**2 * v_next + third.std**2
            v += 2 * third.c_s * third.c_u * c_s
            c = third.c_s * c_s + third.c_u * v_next
        # 17 or 19 levels: 4.5 standard errors of a variance and of a correlation.
        assert float(step.x_t.var()) == pytest.approx(v, rel=4.5 * (2 / n) ** 0.5)
        correlation = float((above * step.x_t).mean()) / (v * v_next) ** 0.5
        assert correlation == pytest.approx(c / (v * v_next) ** 0.5, abs=4.5 / n**0.5)
        if eta == 1:  # the chain of the forward process: its marginal is kept
            assert v == pytest.approx(float(KARRAS.sigma[t]) ** 2, rel=1e-4)
        above, v_next = step.x_t, v


def test_a_schedule_shorter_than_the_laws_assume_is_no_trouble() -> None:
    """Grids whose lower levels lie below min_index, and s < M: every interval is still one."""
    schedule = NoiseSchedule.karras(num_levels=12)
    prior, likelihood = silent()
    prior = Prior(prior.denoiser, schedule, prior.event_shape)
    for law in ("mu*", "mu0", "uniform", "fixed"):
        sampler = MGDM(num_steps=11, gibbs_steps=1, index_law=law)  # type: ignore[arg-type]
        x_0 = sampler.sample(prior, likelihood, generator=generator_for(0))
        assert bool(x_0.isfinite().all())


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 3},
        {"gibbs_steps": 0},
        {"denoise_steps": 0},
        {"min_index": 0},
        {"vi_steps": PerStep(2.5)},
        {"vi_steps": PerStep(3, last=(5, -1))},
        {"eta": 1.1},
        {"threshold": -0.1},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"give at least|whole numbers|lie in"):
        MGDM(**options)  # type: ignore[arg-type]
