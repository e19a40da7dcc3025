import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mgdm_audio.audio import resampling
from mgdm_audio.audio.resampling import PASSBAND, resample, resample_back

USUAL = [(44100, 22050), (22050, 44100), (48000, 22050), (8000, 22050), (384000, 22050)]
NEARLY_COPRIME = [(22051, 22050), (22050, 22051), (44056, 22050), (22050, 44056)]
RATES = [8000, 11025, 22050, 22051, 44056, 44100, 48000, 96000, 384000]


def sine(frequency: float, rate: int, time: int) -> Tensor:
    return torch.sin(2 * math.pi * frequency / rate * torch.arange(time, dtype=torch.float64) + 0.3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3000), st.sampled_from(RATES), st.sampled_from(RATES))
def test_lengths_are_exact_there_and_back(time: int, old: int, new: int) -> None:
    x = torch.zeros(2, time)
    there = resample(x, old, new)
    assert there.shape == (2, math.ceil(time * new / old))
    assert resample_back(there, new, old, time).shape == x.shape


@pytest.mark.parametrize(("old", "new"), USUAL + NEARLY_COPRIME)
@pytest.mark.parametrize("share", [0.01, 0.5, PASSBAND])
def test_a_sine_is_its_samples_at_the_new_rate(old: int, new: int, share: float) -> None:
    frequency = share * min(old, new) / 2
    x = sine(frequency, old, old // 2)
    inner = slice(new // 10, -new // 10)  # away from the ends, where the sine breaks off
    expected = sine(frequency, new, math.ceil(len(x) * new / old))[inner]
    # The window's pass-band ripple, and the error of 4096 interpolated phases: below 1e-6, -120 dB.
    assert (resample(x, old, new)[inner] - expected).abs().max() < 1e-6
    # float32: up to 5000 products are summed (384 kHz), each rounded by up to 6e-8 of itself.
    assert (resample(x.float(), old, new)[inner] - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("old", "new"), [(44100, 22050), (44056, 22050), (48000, 22050)])
def test_what_the_new_rate_cannot_hold_is_removed(old: int, new: int) -> None:
    for share in (1.001, 1.2, 1.8):
        y = resample(sine(share * new / 2, old, old // 2), old, new)
        assert y[new // 10 : -new // 10].abs().max() < 1e-5  # -100 dB


@pytest.mark.parametrize(("old", "new"), [(2, 1), (147, 160), (160, 147), (1, 3)])
def test_both_ways_of_filtering_agree(old: int, new: int) -> None:
    x = torch.randn(3, 2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    length = math.ceil(2000 * new / old)
    direct = resampling._interpolated(x, old, new, length)
    # Linear interpolation between 4096 phases a zero crossing: 2.5e-8 per coefficient.
    torch.testing.assert_close(
        direct, resampling._polyphase(x, old, new, length), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize(("old", "new"), [*NEARLY_COPRIME, (384001, 8000), (8000, 384001)])
def test_filters_stay_small(old: int, new: int) -> None:
    common = math.gcd(old, new)
    table = resampling._phase_table(old // common, new // common)
    assert table.numel() < 2**21  # 16 MB in float64, whatever the ratio


def test_equal_rates_change_nothing() -> None:
    x = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample(x, 44100, 44100), x)


def test_any_leading_shape() -> None:
    x = torch.randn(4, 2, 300, generator=torch.Generator().manual_seed(0))
    for old, new in ((44100, 22050), (44056, 22050)):
        y = resample(x, old, new)
        assert y.shape == (4, 2, 150 if old == 44100 else 151)
        # Sums may be ordered differently for another batch; 1e-6 is float32's rounding.
        torch.testing.assert_close(y[3, 1], resample(x[3, 1], old, new), atol=1e-6, rtol=0)


def test_long_files_keep_their_last_samples() -> None:
    """Beyond 2^24 samples torchaudio counts in float32 and drops some."""
    time = 2**24 + 147 * 10 + 3
    x = torch.randn(1, time, generator=torch.Generator().manual_seed(0))
    y = resample(x, 44100, 48000)
    assert y.shape[-1] == math.ceil(time * 160 / 147)
    tail = 147 * (time // 147 - 20)  # starts on a sample of both rates
    torch.testing.assert_close(
        y[0, -500:], resample(x[0, tail:], 44100, 48000)[-500:], atol=1e-6, rtol=0
    )


def test_there_and_back_returns_what_the_lower_rate_holds() -> None:
    x = sine(3000, 44100, 20001)
    y = resample_back(resample(x, 44100, 22050), 22050, 44100, 20001)
    assert (x - y)[2000:-2000].abs().max() < 2e-6  # two passes of 1e-6


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 1 Hz"):
        resample(torch.zeros(10), 0, 22050)
    with pytest.raises(ValueError, match="too few for 21"):
        resample_back(torch.zeros(10), 22050, 44100, 21)


@pytest.mark.parametrize(
    ("old", "new"),
    [(44100, 22050), (22050, 44100), (48000, 22050), (8000, 22050), (22051, 22050), (22050, 22051),
     (22050, 22050), (384000, 22050)],
)  # fmt: skip
@pytest.mark.parametrize("time", [1, 700, 30_000])
def test_a_span_is_that_of_the_whole(old: int, new: int, time: int) -> None:
    x = torch.randn(2, time, generator=torch.Generator().manual_seed(0))
    asked = []

    def part(start: int, stop: int) -> torch.Tensor:
        assert 0 <= start < stop <= time
        asked.append(stop - start)
        return x[:, start:stop]

    whole = resample(x, old, new)
    length = whole.shape[-1]
    for start, stop in [(0, length), (0, 1), (length - 1, length), (length // 3, length // 2 + 1)]:
        found = resampling.resample_span(part, time, old, new, start, stop)
        assert found.shape[-1] == stop - start
        assert (found - whole[:, start:stop]).abs().max() < 1e-5  # float32 sums, another order
    if time == 30_000 and old == 44100:  # a third of it would reach from end to end without a limit
        assert asked[1] < 600


@pytest.mark.parametrize("rate", [44100, 44056])  # by a polyphase filter, and by a table of phases
def test_a_gpus_samples_stay_on_the_gpu(rate: int) -> None:
    """Under fake tensors an operation on two devices is refused, and no GPU is needed."""
    kept = (resampling._filters, resampling._phase_table)  # which would keep fake tensors
    for cache in kept:
        cache.cache_clear()
    with FakeTensorMode():
        found = resample(torch.empty(2, 5000, device="cuda"), rate, 22050)
    for cache in kept:
        cache.cache_clear()
    assert (found.device.type, found.dtype) == ("cuda", torch.float32)
