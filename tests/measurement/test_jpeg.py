"""JPEG against libjpeg, through Pillow."""

import io

import numpy as np
import pytest
import scipy.fft
import torch
from PIL import Image
from torch import Tensor

from mgdm_audio.measurement import SoftJPEG
from mgdm_audio.measurement.jpeg import quantisation_tables, soft_round

QUALITIES = [2, 50, 95]
SUBSAMPLING = {"4:4:4": 0, "4:2:0": 2}  # Pillow's numbers
SIDE = 48


def pillow_jpeg(planes: np.ndarray, **options: object) -> np.ndarray:
    """Y, Cb and Cr ``[height, width, 3]`` through libjpeg, without a conversion of colour."""
    file = io.BytesIO()
    image = Image.merge("YCbCr", [Image.fromarray(plane) for plane in planes.transpose(2, 0, 1)])
    image.save(file, "JPEG", **options)
    decoded = Image.open(file)
    decoded.draft("YCbCr", decoded.size)
    return np.asarray(decoded)


def to_rgb(ycbcr: np.ndarray) -> Tensor:
    """JFIF 1.02: 8-bit planes to ``[1, 3, height, width]`` in 0..1, not rounded."""
    y, cb, cr = ycbcr.astype(np.float64).transpose(2, 0, 1) - np.array([0, 128, 128])[:, None, None]
    red, blue = y + 1.402 * cr, y + 1.772 * cb
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return torch.from_numpy(np.stack([red, green, blue])[None] / 255)


def to_ycbcr(rgb: Tensor) -> np.ndarray:
    red, green, blue = 255 * rgb[0].numpy()
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([y, (blue - y) / 1.772 + 128, (red - y) / 1.402 + 128], -1)


def blocks(plane: np.ndarray) -> np.ndarray:
    """``[height, width] -> [height / 8, width / 8, 8, 8]``."""
    height, width = plane.shape
    return plane.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)


def planes_on_the_grid(tables: Tensor, halved: bool) -> np.ndarray:
    """Planes of 8 bits whose coefficients are nearly multiples of the tables' steps.

    Where a coefficient lay half-way between two, libjpeg's integer arithmetic would settle which
    it becomes, and the two could be a whole step apart.
    """
    random, planes = np.random.default_rng(0), []
    for which in (0, 1, 1):
        step = tables[which].double().numpy()
        side = SIDE // 2 if which and halved else SIDE
        shape = (side // 8, side // 8, 8, 8)
        grid = random.normal(0, 12, shape) * (random.random(shape) < 0.3)
        grid[..., 0, 0] = random.uniform(-240, 240, shape[:2])
        grid = np.round(grid / step) * step
        plane = scipy.fft.idctn(grid, axes=(2, 3), norm="ortho").swapaxes(1, 2)
        plane = np.round(plane.reshape(side, side) + 128).astype(np.uint8)
        planes.append(plane.repeat(SIDE // side, 0).repeat(SIDE // side, 1))
    return np.stack(planes, -1)


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_tables_are_those_of_libjpeg(quality: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    ours = quantisation_tables(quality, baseline=True).flatten(1).tolist()
    assert list(Image.open(file).quantization.values()) == ours


def test_steps_go_on_rising_unless_tables_are_of_8_bits() -> None:
    assert int(quantisation_tables(2)[0, 0, 0]) == 400  # 16 times 50 / 2
    assert int(quantisation_tables(2, baseline=True).max()) == 255
    assert int(quantisation_tables(100).max()) == 1


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("subsampling", SUBSAMPLING)
@pytest.mark.parametrize("quality", QUALITIES)
def test_within_one_grey_level_of_libjpeg(quality: int, subsampling: str, baseline: bool) -> None:
    tables = quantisation_tables(quality, baseline=baseline)
    planes = planes_on_the_grid(tables, subsampling == "4:2:0")
    qtables = {i: table.flatten().tolist() for i, table in enumerate(tables)}
    want = pillow_jpeg(planes, qtables=qtables, subsampling=SUBSAMPLING[subsampling])
    operator = SoftJPEG(
        quality,
        subsampling=subsampling,  # type: ignore[arg-type]
        baseline=baseline,
        rounding=torch.round,
    )
    rgb = operator(to_rgb(planes))
    assert torch.equal(rgb, rgb.clamp(0.001, 0.999))  # nothing was clipped
    # libjpeg rounds a plane once, or twice where it is interpolated.
    assert np.abs(to_ycbcr(rgb) - want).max() <= 1


def colours(height: int, width: int) -> np.ndarray:
    """8-bit planes that vary smoothly, far from black and white."""
    y, x = np.mgrid[:height, :width] / 16
    waves = np.stack([np.sin(x + y), np.cos(2 * x - y), np.sin(y * x)], -1)
    return np.round(128 + 30 * waves).astype(np.uint8)


@pytest.mark.parametrize("quality", QUALITIES)
def test_an_ordinary_picture_where_no_coefficient_is_at_a_tie(quality: int) -> None:
    planes = colours(128, 128)
    planes[..., 1:] = 128
    tables = quantisation_tables(quality)
    qtables = {i: table.flatten().tolist() for i, table in enumerate(tables)}
    want = pillow_jpeg(planes, qtables=qtables, subsampling=0)[..., 0]
    operator = SoftJPEG(quality, subsampling="4:4:4", rounding=torch.round)
    got = to_ycbcr(operator(to_rgb(planes)))[..., 0]
    step = tables[0].double().numpy()
    coefficients = scipy.fft.dctn(blocks(planes[..., 0] - 128.0), axes=(2, 3), norm="ortho") / step
    # libjpeg's coefficients are integers over 8 before they are quantised, hence off by 1/16.
    settled = np.abs(np.abs(coefficients - np.round(coefficients)) - 0.5) > 0.1 / step
    settled = settled.all((2, 3))
    assert settled.mean() > 0.2
    assert np.abs(blocks(got - want))[settled].max() <= 1


@pytest.mark.parametrize("subsampling", SUBSAMPLING)
@pytest.mark.parametrize(("height", "width"), [(21, 43), (22, 44)])
def test_sides_that_fill_no_block(height: int, width: int, subsampling: str) -> None:
    planes = colours(height, width)
    # Quality 10, where no coefficient of this picture is at a tie.
    want = pillow_jpeg(planes, quality=10, subsampling=SUBSAMPLING[subsampling])
    operator = SoftJPEG(10, subsampling=subsampling, rounding=torch.round)  # type: ignore[arg-type]
    rgb = operator(to_rgb(planes))
    assert rgb.shape == (1, 3, height, width)
    assert np.abs(to_ycbcr(rgb) - want).max() <= 1


def test_a_grey_picture_has_luminance_alone() -> None:
    planes = colours(21, 43)[..., 0]
    file = io.BytesIO()
    Image.fromarray(planes).save(file, "JPEG", quality=10)
    want = np.asarray(Image.open(file))
    grey = SoftJPEG(10, rounding=torch.round)(torch.from_numpy(planes / 255.0)[None, None])
    assert grey.shape == (1, 1, 21, 43)
    assert np.abs(255 * grey[0, 0].numpy() - want).max() <= 1


def test_planes_are_clipped_before_they_are_mixed() -> None:
    planes = np.full((16, 16, 3), (60, 128, 0), np.uint8)
    planes[:, [3, 4, 5, 10, 11, 12, 13], 2] = 255  # Cr overshoots by some 20 at the edges
    want = pillow_jpeg(planes, quality=50, subsampling=0)
    operator = SoftJPEG(50, subsampling="4:4:4", rounding=torch.round)
    rgb = operator(to_rgb(planes))
    assert torch.equal(rgb, rgb.clamp(0, 1))
    expected = to_rgb(want).clamp(0, 1)
    # A grey level of Cr makes 1.4 of red.
    assert 255 * float((rgb - expected).abs().max()) <= 1.5


def test_soft_rounding() -> None:
    x = torch.linspace(-3, 3, 1001, dtype=torch.float64, requires_grad=True)
    rounded = soft_round(x)
    # At a distance d from the nearest integer: off by d^3 <= 1/8, with slope 3 d^2.
    distance = (x - x.round()).detach()
    torch.testing.assert_close(rounded.detach(), x.detach().round() + distance**3)
    (slope,) = torch.autograd.grad(rounded.sum(), x)
    torch.testing.assert_close(slope, 3 * distance**2)


@pytest.mark.parametrize("subsampling", SUBSAMPLING)
def test_the_gradient(subsampling: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(1, 3, 16, 16, generator=generator, dtype=torch.float64)
    operator = SoftJPEG(50, subsampling=subsampling)  # type: ignore[arg-type]
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((weight * operator(x)).sum(), x)
    ahead, behind = (operator(x.detach() + h * direction) for h in (1e-6, -1e-6))
    slope = (weight * (ahead - behind)).sum() / 2e-6
    # Central differences: an error of the step squared, times third derivatives of 255^3 or so.
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=0)
    assert float(gradient.abs().max()) > 0.1


def test_what_is_no_jpeg_is_refused() -> None:
    for quality in (0, 101):
        with pytest.raises(ValueError, match=f"quality {quality}"):
            SoftJPEG(quality)
    with pytest.raises(ValueError, match="subsampling '4:1:1'"):
        SoftJPEG(50, subsampling="4:1:1")  # type: ignore[arg-type]
