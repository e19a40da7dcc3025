from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mgdm_audio.audio.io import read, write
from mgdm_audio.audio.pcm import common_gain, full_scale, quantise_together

PCM = ["PCM_16", "PCM_24"]


def random_stems(seed: int, count: int, peak: float, time: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return peak * (2 * torch.rand(count, 2, time, generator=generator) - 1)


@pytest.mark.parametrize("subtype", PCM)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 8), exponent=st.floats(-7, 0))
def test_quantised_stems_sum_to_the_quantised_mixture(
    subtype: str, seed: int, count: int, exponent: float
) -> None:
    full = full_scale(subtype)
    stems = random_stems(seed, count, 0.99 / count * 10**exponent)
    steps = quantise_together(stems, subtype).double() * full
    exact = stems.double() * full
    assert torch.equal(steps, steps.round())  # on the grid
    assert torch.equal(steps.sum(0), exact.sum(0).round())  # sums of integers below 2^53: exact
    # At most one step. 1e-6: the running sum of the reals is rounded in float64, 2^23 * 2^-52 each.
    assert (steps - exact).abs().max() <= 1 + 1e-6


def test_rounding_alone_would_not_sum() -> None:
    stems = torch.full((4, 1, 1), 0.4 / 2**15)
    assert quantise_together(stems, "PCM_16").sum() * 2**15 == 2  # 1.6 rounded, not 4 x 0


@pytest.mark.parametrize("subtype", PCM)
def test_the_sum_survives_the_files(tmp_path: Path, subtype: str) -> None:
    stems = quantise_together(random_stems(0, 4, 0.24), subtype)
    for k, stem in enumerate(stems):
        write(tmp_path / f"{k}.flac", stem, 8000, subtype)
    write(tmp_path / "mixture.wav", stems.double().sum(0), 8000, subtype)
    back = torch.stack([read(tmp_path / f"{k}.flac").samples for k in range(4)])
    assert torch.equal(back, stems)
    assert torch.equal(back.double().sum(0), read(tmp_path / "mixture.wav").samples.double())


def test_float_is_left_alone() -> None:
    stems = random_stems(0, 3, 5.0)
    assert quantise_together(stems, "FLOAT") is stems
    assert common_gain(stems, stems.sum(0), "FLOAT") == 1.0


def test_stems_beyond_full_scale_are_refused() -> None:
    with pytest.raises(ValueError, match="common_gain"):
        quantise_together(torch.full((1, 1, 1), 1.0), "PCM_16")
    opposed = torch.tensor([2.0, -2.0]).reshape(2, 1, 1)  # their sum would fit
    with pytest.raises(ValueError, match="common_gain"):
        quantise_together(opposed, "PCM_16")


@pytest.mark.parametrize("subtype", PCM)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 8), exponent=st.floats(-1, 3))
def test_after_the_common_gain_nothing_clips(
    subtype: str, seed: int, count: int, exponent: float
) -> None:
    stems = random_stems(seed, count, 10**exponent / count)
    gain = common_gain(stems, stems.sum(0), subtype)
    assert 0 < gain <= 1
    quantise_together(gain * stems, subtype)  # raises where it would clip
    loudest = max(stems.abs().max(), stems.double().sum(0).abs().max())
    assert gain == 1 or gain * loudest > 0.9999  # and no lower than need be


@pytest.mark.parametrize("subtype", PCM)
def test_a_mixture_at_full_scale_needs_no_gain(subtype: str) -> None:
    full = full_scale(subtype)
    mixture = torch.tensor([[-1.0, (full - 1) / full]])
    stems = torch.stack([mixture / 2, mixture / 2])
    assert common_gain(stems, mixture, subtype) == 1.0
    assert torch.equal(quantise_together(stems, subtype).sum(0), mixture)


def test_silence_needs_no_gain() -> None:
    assert common_gain(torch.zeros(4, 2, 100), torch.zeros(2, 100)) == 1.0
    assert common_gain(torch.zeros(4, 2, 0), torch.zeros(2, 0)) == 1.0
