"""The published JPEG operator against its definition, written out again in NumPy and SciPy.

Its four departures from JPEG are switched one by one, so that each is seen to matter here. On the
photographs that the published code comes with, and on uniform noise, that code itself and this
operator differ by 3e-7 of y's norm in float32, except in blocks where a coefficient is at a tie.
"""

from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch

from mgdm_audio.measurement import SoftJPEG
from mgdm_audio.measurement.jpeg import CHROMINANCE, LUMINANCE

QUALITIES = [2, 30, 50, 95]  # steps of 30 and 95 are no integers; those of 95 are below 1, too
DEPARTURES: list[dict[str, Any]] = [
    {"transposed": False},
    {"rounded_steps": True},
    {"interpolated": True},
    {"clipped": True},
]


def picture(height: int = 32, width: int = 48) -> np.ndarray:
    """RGB in 0..1, ``[3, height, width]``: edges that overshoot, and colours that vary."""
    random = np.random.default_rng(0)
    coarse = random.random((3, height // 4, width // 4)).round().repeat(4, 1).repeat(4, 2)
    return np.clip(0.8 * coarse + 0.2 * random.random((3, height, width)), 0, 1)


def by_definition(
    rgb: np.ndarray,
    quality: int,
    *,
    transposed: bool = True,
    rounded_steps: bool = False,
    interpolated: bool = False,
    clipped: bool = False,
) -> np.ndarray:
    factor = 50 / quality if quality < 50 else 2 - quality / 50

    def coded(plane: np.ndarray, table: Any) -> np.ndarray:
        """A plane about 0 through the coefficients of its blocks."""
        step = factor * np.array(table, dtype=np.float64)
        step = step.T if transposed else step
        step = np.maximum(np.floor(step + 0.5), 1) if rounded_steps else step
        height, width = plane.shape
        blocks = plane.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
        level = scipy.fft.dctn(blocks, axes=(2, 3), norm="ortho") / step
        level = np.round(level) + (level - np.round(level)) ** 3
        blocks = scipy.fft.idctn(level * step, axes=(2, 3), norm="ortho")
        decoded = blocks.swapaxes(1, 2).reshape(height, width)
        return np.clip(decoded, -128, 127) if clipped else decoded

    def chroma(plane: np.ndarray) -> np.ndarray:
        height, width = plane.shape
        small = plane.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
        small = coded(small, CHROMINANCE)
        if interpolated:
            large = torch.nn.functional.interpolate(
                torch.from_numpy(small)[None, None], scale_factor=2, mode="bilinear"
            )
            return large[0, 0].numpy()
        return small.repeat(2, 0).repeat(2, 1)

    red, green, blue = 255 * rgb
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = chroma((blue - y) / 1.772), chroma((red - y) / 1.402)
    y = coded(y - 128, LUMINANCE) + 128
    red, blue = y + 1.402 * cr, y + 1.772 * cb
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.stack([red, green, blue]) / 255, 0, 1)


@pytest.mark.parametrize("quality", QUALITIES)
def test_it_is_its_definition(quality: int) -> None:
    rgb = picture()
    want = by_definition(rgb, quality)
    assert ((want > 0) & (want < 1)).mean() > 0.1  # not all of it is clipped
    found = SoftJPEG(quality, published=True)(torch.from_numpy(rgb)[None])[0].numpy()
    # Both in float64: sums of 64 values up to 255, over steps down to 1, and back to 0..1.
    assert np.abs(found - want).max() < 1e-11


@pytest.mark.parametrize("departure", DEPARTURES, ids=lambda d: next(iter(d)))
def test_each_departure_from_jpeg_matters(departure: dict[str, bool]) -> None:
    rgb = picture()
    found = SoftJPEG(30, published=True)(torch.from_numpy(rgb)[None])[0].numpy()
    # A thousand times what float32 rounds away.
    assert np.abs(found - by_definition(rgb, 30, **departure)).max() > 1e-4


def test_a_grey_picture_has_luminance_alone() -> None:
    grey = torch.from_numpy(picture()[:1])[None].expand(1, 3, -1, -1)
    found = SoftJPEG(10, published=True)(grey[:, :1])
    # Grey colour has no Cb or Cr: what is left of it is the same in all channels.
    colour = SoftJPEG(10, published=True)(grey)
    torch.testing.assert_close(found.expand_as(colour), colour, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("quality", "options", "says"),
    [
        (100, {}, "quality 100 of the published operator: give 1 to 99"),  # steps of 0
        (0, {}, "quality 0 of the published operator: give 1 to 99"),
        (50, {"baseline": True}, "published is 4:2:0 without baseline"),
        (50, {"subsampling": "4:4:4"}, "published is 4:2:0 without baseline"),
    ],
)
def test_what_that_code_does_not_have_is_refused(
    quality: int, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        SoftJPEG(quality, published=True, **options)
