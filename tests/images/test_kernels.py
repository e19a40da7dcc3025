import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.images.blurs import gaussian_kernel, motion_kernel
from mgdm_audio.images.io import png, read_kernel


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moments(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the covariance of a kernel taken as a distribution over (row, column)."""
    side = torch.arange(len(kernel), dtype=torch.float64)
    points = torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1)
    mass = kernel.flatten()
    centred = points - (points * mass).sum(1, keepdim=True)
    return (points * mass).sum(1), (mass * centred) @ centred.T


def test_the_gaussian_kernel() -> None:
    kernel = gaussian_kernel(3)
    assert len(kernel) == 25  # 12 = 4 x 3 pixels on either side
    assert len(gaussian_kernel(0.9)) == 9  # 3.6, rounded
    torch.testing.assert_close(kernel.sum(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(kernel, kernel.flip(0))
    ratio = math.exp(-(5**2 - 2**2) / (2 * 3**2))
    assert float(kernel[12 + 5] / kernel[12 + 2]) == pytest.approx(ratio, rel=1e-13)


@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 15, 61])
def test_a_motion_kernel_is_a_share_of_the_exposure(size: int, intensity: float) -> None:
    for seed in range(5):
        kernel = motion_kernel(size, intensity, generator(seed))
        assert kernel.shape == (size, size)
        assert float(kernel.min()) >= 0
        # All of the path is inside: no share fell beyond the edge.
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)


def test_without_shaking_the_path_is_a_straight_line_through_the_centre() -> None:
    for seed in range(5):
        mean, covariance = moments(motion_kernel(61, 0.0, generator(seed)))
        # Sharing a point among its neighbours keeps its place on average.
        torch.testing.assert_close(mean, torch.full_like(mean, 30), rtol=0, atol=1e-9)
        across, along = torch.linalg.eigvalsh(covariance)
        # The variance of a uniform law on a length of 60, plus at most 1/4 for the sharing.
        assert 60**2 / 12 - 1 < float(along) < 60**2 / 12 + 0.5
        assert float(across) <= 0.5


def test_shaking_bends_the_path() -> None:
    def length(intensity: float) -> float:
        kernels = [motion_kernel(61, intensity, generator(seed)) for seed in range(20)]
        return sum(float(torch.linalg.eigvalsh(moments(k)[1])[1]) for k in kernels) / 20

    assert length(0.0) > 1.5 * length(0.5) > 3 * length(1.0)


def test_the_width_that_the_task_states() -> None:
    kernels = [motion_kernel(61, 0.5, generator(seed)) for seed in range(200)]
    widths = torch.stack([moments(kernel)[1].trace().sqrt() for kernel in kernels])
    # 8.9 +- 2.2 pixels of a thousand seeds; five standard errors of the mean and of the standard
    # deviation of two hundred: 2.2 / sqrt(200) and 2.2 / sqrt(400).
    assert float(widths.mean()) == pytest.approx(8.9, abs=5 * 2.2 / 200**0.5)
    assert float(widths.std()) == pytest.approx(2.2, abs=5 * 2.2 / 400**0.5)


def test_a_seed_means_a_kernel() -> None:
    first, again, other = (motion_kernel(31, 0.5, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_is_no_kernel_is_refused() -> None:
    for std in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="std"):
            gaussian_kernel(std)
    for size in (0, 60):
        with pytest.raises(ValueError, match="odd number of pixels"):
            motion_kernel(size, 0.5, generator())
    for intensity in (-0.1, 1.5):
        with pytest.raises(ValueError, match="intensity"):
            motion_kernel(61, intensity, generator())


@pytest.mark.parametrize("shape", [(3, 5), (4, 5), (3, 6), (1, 1), (2, 2)])
def test_a_kernel_of_a_file_is_centred_and_of_sum_1(shape: tuple[int, int], tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float64)
    levels[shape[0] // 2, shape[1] // 2] = 255  # the centre
    np.save(tmp_path / "k.npy", 3.7 * levels)
    kernel = read_kernel(tmp_path / "k.npy")
    rows, columns = kernel.shape
    assert (rows % 2, columns % 2) == (1, 1)
    assert kernel[rows // 2, columns // 2] == kernel.max()
    # Divided twice in float64.
    want = torch.from_numpy(levels / levels.sum())
    torch.testing.assert_close(kernel[: shape[0], : shape[1]], want, rtol=1e-14, atol=0)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-14)

    (tmp_path / "k.png").write_bytes(png(torch.from_numpy(levels / 127.5 - 1)[None]))
    # x / 127.5 - 1 + 1 of levels from 0 to 255: a rounding of 1e-16.
    torch.testing.assert_close(read_kernel(tmp_path / "k.png"), kernel, rtol=0, atol=1e-15)


def test_a_kernel_of_the_largest_numbers_does_not_overflow(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.full((3, 3), 1.7e308))
    torch.testing.assert_close(read_kernel(tmp_path / "k.npy"), torch.full((3, 3), 1 / 9).double())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.ones((2, 3, 3)), "has shape (2, 3, 3); a kernel is [height, width]"),
        (np.ones(3), "has shape (3,); a kernel is [height, width]"),
        (np.array([[1.0, -0.5]]), "holds -0.5; a kernel has no negative value"),
        (np.zeros((3, 3)), "all values are 0; a kernel has a positive sum"),
        (np.array([[1.0, np.nan]]), "holds values that are not finite, or none"),
        (np.array([[1.0, np.inf]]), "holds values that are not finite, or none"),
        (np.zeros((0, 3)), "holds values that are not finite, or none"),
        (np.array([[1j]]), "array of numbers (values of type complex128)"),
        (np.array([["1"]]), "array of numbers (values of type <U1)"),
        (np.array([[{}]]), "array of numbers (Object arrays cannot be loaded when allow_pickle="),
    ],
)
def test_what_is_no_kernel_in_a_file_is_named(values: Any, says: str, tmp_path: Path) -> None:
    np.save(path := tmp_path / "k.npy", values, allow_pickle=True)
    with pytest.raises(UserError) as caught:
        read_kernel(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kernel_is_grey(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3), "white").save(tmp_path / "colour.png")
    Image.new("LA", (3, 3), (255, 100)).save(tmp_path / "clear.png")
    for name in ("colour.png", "clear.png"):
        with pytest.raises(UserError, match=f"{name}: a kernel is grey, without transparency"):
            read_kernel(tmp_path / name)
    Image.fromarray(np.array([[0, 300]], np.uint16)).save(tmp_path / "deep.png")
    assert read_kernel(tmp_path / "deep.png").tolist() == [[0, 1, 0]]
