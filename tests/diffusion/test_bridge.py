import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgdm_audio.diffusion import (
    GaussianDenoiser,
    NoiseSchedule,
    Prior,
    bridge,
    ddim,
    ddim_step,
    sample_bridge,
    sample_forward,
)

KARRAS, LINEAR = NoiseSchedule.karras(), NoiseSchedule.linear()

schedules = st.sampled_from([KARRAS, LINEAR])
triples = st.lists(st.integers(0, 1000), min_size=3, max_size=3, unique=True).map(sorted)
etas = st.floats(0, 1)


def forward(schedule: NoiseSchedule, s: int, t: int) -> tuple[float, float]:
    """Scale and variance of q(x_t | x_s), from the definition and in extended precision."""
    a_s, a_t = float(schedule.alpha[s]), float(schedule.alpha[t])
    l_s, l_t = float(schedule.noise_level[s]), float(schedule.noise_level[t])
    return a_t / a_s, a_t**2 * math.fsum([l_t * l_t, -l_s * l_s])


@given(schedules, triples)
def test_at_eta_1_the_bridge_is_gaussian_conditioning(
    schedule: NoiseSchedule, levels: list[int]
) -> None:
    """Condition the joint Gaussian of (x_t, x_u) given x_s on x_u, by the textbook formula."""
    s, t, u = levels
    r_st, v_st = forward(schedule, s, t)
    r_tu, v_tu = forward(schedule, t, u)
    gain = v_st * r_tu / (r_tu**2 * v_st + v_tu)  # Cov(x_t, x_u) / Var(x_u)
    kernel = bridge(schedule, s, t, u)
    # 1e-12: the variances of neighbouring levels are differences that lose three digits or so.
    assert kernel.c_u == pytest.approx(gain, rel=1e-12)
    assert kernel.c_s == pytest.approx(r_st - gain * r_tu * r_st, rel=1e-12, abs=1e-14)
    assert kernel.std == pytest.approx(math.sqrt(v_st - gain * r_tu * v_st), rel=1e-12, abs=1e-9)


@given(schedules, triples, etas)
def test_the_marginal_is_kept_for_every_eta(
    schedule: NoiseSchedule, levels: list[int], eta: float
) -> None:
    """x_u ~ q(x_u | x_s) and then the bridge is x_t ~ q(x_t | x_s): same mean, same variance."""
    s, t, u = levels
    (r_st, v_st), (r_su, v_su) = forward(schedule, s, t), forward(schedule, s, u)
    c_s, c_u, std = bridge(schedule, s, t, u, eta)
    assert c_s + c_u * r_su == pytest.approx(r_st, rel=1e-12)
    assert c_u**2 * v_su + std**2 == pytest.approx(v_st, rel=1e-12)


@given(schedules, st.lists(st.integers(1, 1000), min_size=2, max_size=2, unique=True).map(sorted))
def test_ddim_is_the_bridge_from_level_0(schedule: NoiseSchedule, levels: list[int]) -> None:
    """Equation 12 of DDIM (arXiv 2010.02502) at eta = 0: alpha_t x_0 + sigma_t eps."""
    t, u = levels
    c_0, c_u, std = bridge(schedule, 0, t, u, eta=0.0)
    alpha, sigma = schedule.alpha, schedule.sigma
    assert std == 0
    assert c_u == pytest.approx(float(sigma[t] / sigma[u]), rel=1e-12)
    assert c_0 == pytest.approx(float(alpha[t] - sigma[t] * alpha[u] / sigma[u]), abs=1e-14)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_ends_of_a_bridge_are_its_ends(eta: float) -> None:
    assert bridge(KARRAS, 10, 10, 50, eta) == (1, 0, 0)
    assert bridge(KARRAS, 0, 0, 0, eta) == (1, 0, 0)
    c_s, c_u, std = bridge(KARRAS, 10, 50, 50, eta)
    assert (c_s, std) == (pytest.approx(0, abs=1e-15), 0)
    assert c_u == pytest.approx(1, rel=1e-15)


def test_levels_per_item_give_each_item_its_own_bridge() -> None:
    s, t, u = torch.tensor([0, 3, 40]), torch.tensor([7, 3, 41]), torch.tensor([8, 90, 1000])
    together = bridge(KARRAS, s, t, u, 0.7)
    for i in range(3):
        alone = bridge(KARRAS, int(s[i]), int(t[i]), int(u[i]), 0.7)
        assert [float(torch.as_tensor(c)[i]) for c in together] == list(alone)


def test_what_is_no_bridge_is_refused() -> None:
    with pytest.raises(ValueError, match="out of order"):
        bridge(KARRAS, 5, 4, 6)
    with pytest.raises(ValueError, match="out of order"):
        bridge(KARRAS, 0, torch.tensor([3, 9]), 6)
    with pytest.raises(ValueError, match="eta"):
        bridge(KARRAS, 0, 1, 2, eta=1.5)


def test_draws_have_the_moments_of_their_kernel() -> None:
    n = 20000
    x_s, x_u = torch.full((n, 1), 0.3).double(), torch.full((n, 1), -1.2).double()
    generator = torch.Generator().manual_seed(0)
    kernel = bridge(KARRAS, 100, 400, 800, eta=0.8)
    draws = sample_bridge(KARRAS, x_s, x_u, 100, 400, 800, eta=0.8, generator=generator)
    mean, std = kernel.c_s * 0.3 - kernel.c_u * 1.2, float(kernel.std)
    # Four standard errors: 1 in 16000 for a right answer, were the seed not fixed.
    assert float(draws.mean()) == pytest.approx(mean, abs=4 * std / n**0.5)
    assert float(draws.std()) == pytest.approx(std, rel=4 / (2 * n) ** 0.5)
    draws = sample_forward(KARRAS, x_s, 100, 400, generator=generator)
    ratio, variance = forward(KARRAS, 100, 400)
    assert float(draws.mean()) == pytest.approx(0.3 * ratio, abs=4 * (variance / n) ** 0.5)
    assert float(draws.std()) == pytest.approx(variance**0.5, rel=4 / (2 * n) ** 0.5)


@pytest.fixture
def prior() -> Prior:
    return Prior(GaussianDenoiser(0.01 * torch.eye(6)), KARRAS, (2, 3))


def test_a_step_to_level_0_returns_the_denoised_state(prior: Prior) -> None:
    generator = torch.Generator().manual_seed(0)
    x = prior.sample_x_T(2, generator=generator)
    state = generator.get_state()
    x_0 = ddim_step(prior, x, 500, 0, generator=generator)
    assert torch.equal(x_0, prior.predict_x0(x, 500))
    assert torch.equal(generator.get_state(), state)  # no noise, so none drawn


def test_repeated_levels_change_nothing(prior: Prior) -> None:
    generator = torch.Generator().manual_seed(0)
    x = prior.sample_x_T(2, generator=generator, dtype=torch.float64)
    direct = ddim(prior, x, [500, 100, 0], eta=0.0, generator=generator)
    repeated = ddim(prior, x, [500, 500, 100, 100, 100, 0], eta=0.0, generator=generator)
    torch.testing.assert_close(repeated, direct, rtol=1e-12, atol=0)


def test_coefficients_reach_a_float64_state_undiminished() -> None:
    x = torch.ones(2, 3, dtype=torch.float64)
    mean = bridge(KARRAS, 0, 500, 900).mean(x, 0 * x)
    assert float(mean[0, 0]) == bridge(KARRAS, 0, 500, 900).c_s
