import json
import math

import pytest
import torch

from mgdm_audio.diffusion import NoiseSchedule

SCHEDULES = {"karras": NoiseSchedule.karras(), "linear": NoiseSchedule.linear()}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_is_variance_preserving_and_starts_clean(schedule: NoiseSchedule) -> None:
    assert schedule.num_levels == 1000
    assert schedule.alpha[0] == 1
    assert schedule.sigma[0] == 0
    # Two roots and two squares of numbers below 1: a few rounding errors of float64.
    total = schedule.alpha**2 + schedule.sigma**2
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-15, atol=0)


def test_the_audio_grid_has_the_published_levels() -> None:
    level = SCHEDULES["karras"].noise_level
    published = {1: 5e-4, 2: 5.515e-4, 10: 1.096e-3, 52: 9.786e-3, 999: 19.94, 1000: 20.0}
    for index, value in published.items():
        assert float(level[index]) == pytest.approx(value, rel=5e-4)  # quoted to four digits
    assert float(level[1]) == pytest.approx(5e-4, rel=1e-14)  # a cube root and a cube
    assert float(level[1000]) == pytest.approx(20, rel=1e-14)
    assert float(SCHEDULES["karras"].sigma[1000]) == pytest.approx(0.99875, abs=5e-6)


def test_the_audio_grid_is_that_of_edm_reversed() -> None:
    n = 1000
    i = torch.arange(n, dtype=torch.float64)
    root = 20 ** (1 / 3) + i / (n - 1) * ((5e-4) ** (1 / 3) - 20 ** (1 / 3))
    level = SCHEDULES["karras"].noise_level
    # The smallest roots are differences of numbers 30 times larger: 1e-16 * 30 * 3, and a margin.
    torch.testing.assert_close(level[1:], root.flip(0) ** 3, rtol=1e-13, atol=0)


def test_ddpm_levels_are_prefixed_by_the_clean_one() -> None:
    schedule = SCHEDULES["linear"]
    alpha_bar = 1.0
    for t, beta in enumerate(torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64).tolist(), 1):
        alpha_bar *= 1 - beta
        if t in (1, 2, 500, 1000):
            assert float(schedule.alpha[t]) ** 2 == pytest.approx(alpha_bar, rel=1e-12)
    assert math.isclose(float(schedule.sigma[1]) ** 2, 1e-4, rel_tol=1e-11)


def test_float32_would_be_wrong_where_float64_is_exact() -> None:
    # Why the tables are float64. Near 1, float32 has steps of 6e-8; the square of the smallest
    # noise level is 2.5e-7, so half a step is 12 % of it.
    schedule = SCHEDULES["karras"]
    alpha_bar = schedule.alpha**2
    rounded = alpha_bar.float().double()
    exact = schedule.noise_level[1:10] ** 2
    error = (((1 - rounded) / rounded)[1:10] / exact - 1).abs()
    assert 0.05 < float(error.max()) < 0.12
    torch.testing.assert_close((schedule.sigma**2 / alpha_bar)[1:10], exact, rtol=1e-14, atol=0)


def test_the_sampling_grid_is_the_published_one() -> None:
    schedule = SCHEDULES["karras"]
    assert schedule.timesteps(20)[:4] == [0, 52, 105, 157]
    assert schedule.timesteps(20)[-2:] == [946, 999]
    assert schedule.timesteps(100)[:5] == [0, 10, 20, 30, 40]
    assert schedule.timesteps(1000) == list(range(1000))
    for bad in (1, 1001):
        with pytest.raises(ValueError, match="takes 2 to 1000"):
            schedule.timesteps(bad)


def test_nearest_inverts_the_table() -> None:
    schedule = SCHEDULES["karras"]
    for t in (0, 1, 2, 500, 1000):
        assert schedule.nearest(float(schedule.noise_level[t])) == t
    assert schedule.nearest(1e9) == 1000
    assert schedule.nearest(1e-9) == 1


@pytest.mark.parametrize(
    "schedule",
    [
        NoiseSchedule.karras(1e-3, 10, 7, 20),
        NoiseSchedule.linear(num_levels=50),
        NoiseSchedule.from_noise_levels(torch.tensor([0, 0.1, 3], dtype=torch.float64)),
    ],
    ids=["karras", "linear", "table"],
)
def test_a_schedule_survives_json(schedule: NoiseSchedule) -> None:
    again = NoiseSchedule.from_config(json.loads(json.dumps(schedule.to_config())))
    # Exact for a named schedule; a table goes through sigma/alpha, one rounding error away.
    torch.testing.assert_close(again.alpha, schedule.alpha, rtol=1e-15, atol=0)
    torch.testing.assert_close(again.sigma, schedule.sigma, rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    "config", [{"kind": "cosine"}, {}, {"kind": "karras", "sigma": 1}, {"kind": "table"}]
)
def test_an_unknown_description_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="noise schedule"):
        NoiseSchedule.from_config(config)


def test_a_malformed_table_is_refused() -> None:
    good = NoiseSchedule.karras(num_levels=3)
    with pytest.raises(ValueError, match="float64"):
        NoiseSchedule(good.alpha.float(), good.sigma.float())
    with pytest.raises(ValueError, match="level 0 is clean"):
        NoiseSchedule(good.alpha[1:], good.sigma[1:])
    with pytest.raises(ValueError, match="rise"):
        NoiseSchedule(good.alpha[[0, 2, 1]], good.sigma[[0, 2, 1]])
    with pytest.raises(ValueError, match="two tables"):
        NoiseSchedule(good.alpha, good.sigma[1:])
