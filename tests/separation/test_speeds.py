"""Draws at several speeds of a track."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.config import ConfigError
from mgdm_audio.errors import UserError
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.samplers.presets import Preset, load_preset
from mgdm_audio.separation.separator import Separator
from mgdm_audio.separation.speeds import play, play_back, ratio, speeds_of
from tests.toys import STEMS, song

RATE, NOISE = 22050, 0.01
SHARES = torch.tensor([0.4, 0.3, 0.2, 0.1])


class Shares:
    """Each source is a fixed share of the mixture, plus ``noise`` that sums to zero."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise, self.heard = noise, []  # type: float, list[Tensor]

    def sample(self, prior: Any, likelihood: Any, *, generator: Any, **options: Any) -> Tensor:
        y = likelihood.y
        self.heard += list(y)
        eps = [torch.randn(4, y.shape[-1], generator=g) for g in generator]
        noise = torch.stack([e - e.mean(0) for e in eps])
        return SHARES[:, None] * y + self.noise * noise


def separator(prior: Path, sampler: Shares, speeds: tuple[float, ...], **options: Any) -> Separator:
    draws = options.pop("draws", len(speeds))
    preset = Preset("stub", sampler, NOISE, draws, {}, {"speeds": speeds})  # type: ignore[arg-type]
    settings = {"device": "cpu", "precision": "float32", "level": "none", **options}
    return Separator(load_prior(prior), preset, **settings)


def test_a_speed_multiplies_frequencies_and_divides_time() -> None:
    time, hertz = 8000, 1000.0
    x = (2 * math.pi * hertz / RATE * torch.arange(time, dtype=torch.float64)).sin()
    for semitones, factor in (
        (12.0, Fraction(2)),
        (-12.0, Fraction(1, 2)),
        (3.0, Fraction(19, 16)),
    ):
        speed = ratio(semitones)
        assert speed == factor
        played = play(x, speed)
        assert played.shape[-1] == math.ceil(time / factor)
        exact = (
            2 * math.pi * hertz * float(factor) / RATE * torch.arange(len(played)).double()
        ).sin()
        # Away from the ends, where the filter reaches into the silence around: 1e-4 dB.
        inner = slice(600, -600)
        torch.testing.assert_close(played[inner], exact[inner], rtol=0, atol=3e-5)
        back = play_back(played, speed, time)
        torch.testing.assert_close(back[1200:-1200], x[1200:-1200], rtol=0, atol=6e-5)
    with pytest.raises(ValueError, match=r"13 semitones; give -12 to 12"):
        ratio(13)


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_fixed_shares_come_back_whatever_the_speed(tiny_prior: Path, rate: int) -> None:
    """They commute with playing, and what playing loses is as in the draw that loses nothing: so
    white noise, up to the Nyquist frequency, is shared as at one speed."""
    mixture = song(1, 1, 9000, rate) + 0.1 * torch.randn(1, 9000, generator=torch.manual_seed(0))
    sampler = Shares()
    several = separator(tiny_prior, sampler, (0.0, -3.0, 5.0), segment=0.2, overlap=0.05)
    one = separator(tiny_prior, Shares(), (0.0,), segment=0.2, overlap=0.05)
    stems = several.separate(mixture, rate)
    assert len({y.shape[-1] for y in sampler.heard}) == 3
    for name, expected in one.separate(mixture, rate).items():
        # float32 filters of a few hundred taps, twice there and back
        torch.testing.assert_close(stems[name], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_draws_take_turns_and_their_mean_and_spread_are_theirs(
    tiny_prior: Path, batch_size: int
) -> None:
    mixture = song(2, 1, 5000, RATE)
    options = {"draws": 5, "batch_size": batch_size, "segment": 5000 / RATE, "overlap": 0.0}
    found = separator(tiny_prior, Shares(0.05), (0.0, -2.0, 2.0), **options).separate(
        mixture, RATE, keep_draws=True
    )
    assert found.draws is not None
    assert found.spread is not None
    total = found.draws.sum(1)
    torch.testing.assert_close(total, mixture.expand_as(total), rtol=0, atol=1e-6)
    mean = torch.stack([found.stems[name] for name in STEMS])
    torch.testing.assert_close(found.draws.mean(0), mean, rtol=0, atol=1e-6)
    # The spread's energy over time and bands is that of the unbiased variance over the draws.
    variance = found.draws.var(0).mean((-1, -2))
    for k, name in enumerate(STEMS):
        windows = found.spread.std[name].square().sum(-1).mean()
        assert float(windows) == pytest.approx(float(variance[k]), rel=0.05)


def test_with_joins_by_conditioning_all_draws_are_at_the_tracks_own_speed(tiny_prior: Path) -> None:
    sampler = Shares()
    options = {"segment": 0.1, "overlap": 0.03, "join": "condition"}
    separator(tiny_prior, sampler, (0.0, -3.0, 3.0), **options).separate(
        song(3, 1, 2205, RATE), RATE
    )
    assert len(sampler.heard) == 3
    assert len({y.shape[-1] for y in sampler.heard}) == 1


@pytest.mark.parametrize("speeds", ["[]", "[3, 0]", "[0, 13]", "[0, nan]"])
def test_a_preset_with_speeds_that_make_no_sense_is_one_line(speeds: str) -> None:
    with pytest.raises(ConfigError, match="semitones, 0 first, up to 12 or -12"):
        speeds_of(load_preset("default", [f"separation.speeds={speeds}"]))
    with pytest.raises(ConfigError, match="default: separation: unknown key 'speed'"):
        speeds_of(load_preset("default", ["separation.speed=3"]))


def test_the_separator_s_own_speeds_replace_those_of_the_preset(tiny_prior: Path) -> None:
    loaded, preset = load_prior(tiny_prior), load_preset("default")
    assert Separator(loaded, preset, device="cpu").settings()["speeds"] == [0, -3, 3]
    assert Separator(loaded, preset, device="cpu", speeds=[0]).settings()["speeds"] == [0]
    with pytest.raises(UserError, match="semitones, 0 first"):
        Separator(loaded, preset, device="cpu", speeds=[3, 0])
