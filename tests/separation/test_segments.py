import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mgdm_audio.separation.segments import cut, fade_in, starts, stitched


def stitch(segments: Iterable[Tensor], time: int, overlap: int) -> Tensor:
    return torch.cat([piece.clone() for piece in stitched(segments, time, overlap)], -1)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, int]:
    """(time, segment, overlap), with times shorter than a segment and of one sample among them."""
    segment = draw(st.integers(1, 60))
    overlap = draw(st.integers(0, segment // 2))
    return draw(st.integers(0, 400)), segment, overlap


@settings(max_examples=200, deadline=None)
@given(layouts(), st.sampled_from([torch.float32, torch.float64]))
def test_the_identity_separator_returns_its_input(
    layout: tuple[int, int, int], dtype: torch.dtype
) -> None:
    """Exactly: two equal values differ by 0, and before + w * 0 = before, whatever w is."""
    time, segment, overlap = layout
    x = torch.randn(2, 3, time, dtype=dtype, generator=torch.Generator().manual_seed(time))
    assert torch.equal(stitch(cut(x, segment, overlap), time, overlap), x)


@settings(max_examples=100, deadline=None)
@given(layouts())
def test_segments_are_as_few_as_cover_the_input(layout: tuple[int, int, int]) -> None:
    time, segment, overlap = layout
    first = starts(time, segment, overlap)
    parts = cut(torch.ones(time), segment, overlap)
    assert parts.shape == (len(first), segment)
    assert first[-1] + segment >= time
    assert len(first) == 1 or first[-1] + overlap < time  # the last one brings something new
    assert all(b - a == segment - overlap for a, b in pairwise(first))
    assert parts[-1, max(0, time - first[-1]) :].count_nonzero() == 0


@pytest.mark.parametrize("overlap", [1, 2, 7, 100])
def test_the_weights_sum_to_one(overlap: int) -> None:
    window = fade_in(overlap, torch.zeros(1, dtype=torch.float64))
    # sin^2 + cos^2 of two arguments, each rounded: a few units in the last place.
    assert (window + window.flip(0) - 1).abs().max() <= 4 * torch.finfo(torch.float64).eps
    assert ((window > 0) & (window < 1)).all()
    assert (window.diff() > 0).all()


def test_a_seam_is_a_cross_fade_of_the_two_segments() -> None:
    before, after = torch.full((10,), 2.0), torch.full((10,), 6.0)
    joined = stitch([before, after], 16, 4)
    window = torch.tensor([math.sin(math.pi / 2 * (i + 0.5) / 4) ** 2 for i in range(4)])
    expected = torch.cat([before[:6], 2 * (1 - window) + 6 * window, after[4:]])
    torch.testing.assert_close(joined, expected, atol=1e-6, rtol=0)  # float32 rounding


def test_one_segment_at_a_time_is_held() -> None:
    asked: list[int] = []

    def separated() -> Iterator[Tensor]:
        for i, part in enumerate(cut(torch.arange(30.0), 10, 2)):
            asked.append(i)
            yield part
            part.fill_(torch.nan)  # used up once the next one is asked for

    assert torch.equal(stitch(separated(), 30, 2), torch.arange(30.0))
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize(("segment", "overlap"), [(10, 6), (10, -1), (0, 0), (1, 1)])
def test_an_overlap_of_more_than_half_is_refused(segment: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="half of segment"):
        cut(torch.zeros(100), segment, overlap)


def test_a_wrong_number_of_segments_is_refused() -> None:
    parts = cut(torch.zeros(30), 10, 2)
    with pytest.raises(ValueError, match="end at sample 26 of 30"):
        stitch(parts[:-1], 30, 2)
    with pytest.raises(ValueError, match="more segments"):
        stitch([*parts, parts[0]], 30, 2)
    with pytest.raises(ValueError, match="end at sample 0 of 30"):
        stitch([], 30, 2)
