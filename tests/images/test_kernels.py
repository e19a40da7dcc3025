import math

import pytest
import torch
from torch import Tensor

from mgdm_audio.images.kernels import gaussian_kernel, motion_kernel


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
