"""How far draws lie apart over time and frequency: energies are neither lost nor misplaced."""

import math

import pytest
import torch

from mgdm_audio.separation.uncertainty import (
    BANDS,
    HOP,
    WINDOWS,
    Spread,
    SpreadMap,
    band_edges,
    band_power,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [22050, 44100, 8000])
@pytest.mark.parametrize("length", [100, 101])
def test_bands_sum_to_the_energy_of_each_window(rate: int, length: int) -> None:
    x = noise(2, 3, 350)
    power = band_power(x, length, band_edges(rate), rate)
    assert power.shape == (2, 3, 4, BANDS)
    want = [part.square().sum(-1) for part in x.split(length, -1)]
    torch.testing.assert_close(power.sum(-1), torch.stack(want, -1), rtol=1e-5, atol=0)


def test_a_tone_lies_in_its_band() -> None:
    rate, length = 22050, 2205
    edges = band_edges(rate)
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(rate / 2)
    for frequency in (50, 440, 10000):  # whole periods a window: no leakage
        tone = torch.sin(2 * math.pi * frequency / rate * torch.arange(length))
        power = band_power(tone, length, edges, rate)[0]
        (band,) = (i for i in range(BANDS) if edges[i] <= frequency < edges[i + 1])
        assert power[band] / power.sum() > 0.9999


@pytest.mark.parametrize("starts", [[0, 130], [0, 77]])
def test_deviations_add_up_wherever_they_begin(starts: list[int]) -> None:
    """Two stretches of a track that do not overlap: the variance of each window of it."""
    rate, time = 400, 237  # windows of 40 samples, the last of 37
    x = noise(3, time)
    spread = SpreadMap(2, 3, time, rate)
    for start, stop in zip(starts, [*starts[1:], time], strict=True):
        spread.add(x[:, start:stop], start, 1, 0.25)
    std = spread.std()
    assert std.shape == (2, 3, 6, BANDS)
    assert std[0].count_nonzero() == 0
    # A window that holds the border is two deviations side by side: energies add.
    want = [0.5 * part.square().mean(-1).sqrt() for part in x.split(40, -1)]
    found = Spread({"a": std[1]}, spread.hop, spread.edges).over_time["a"]
    torch.testing.assert_close(found, torch.stack(want, -1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("hours", [0.5, 1, 2.25])
def test_a_long_track_has_no_more_windows_than_one_of_an_hour(hours: float) -> None:
    rate, time = 400, round(hours * 3600 * 400)
    spread = SpreadMap(1, 1, time, rate)
    assert spread.hop == pytest.approx(HOP * max(1, hours))
    assert spread.energy.shape[2] == min(WINDOWS, time // 40)
    x, start = noise(1, 1000), time - 1000
    spread.add(x, start, 0, 1.0)
    energy = spread.std().double().square().sum() * spread.length  # each window is a whole one
    assert float(energy) == pytest.approx(float(x.double().square().sum()), rel=1e-5)
