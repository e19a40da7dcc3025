"""What the filters compute; that they are linear operators is tested in test_operators."""

import warnings
from typing import Any

import pytest
import scipy.ndimage
import torch
from torch import Tensor

from mgdm_audio.measurement import (
    Blur,
    Downsampling,
    LinearOperator,
    Separable,
    SeparableBlur,
    SpatiallyVaryingBlur,
)
from mgdm_audio.measurement.filtering import Padding

MODES: dict[Padding, str] = {"zeros": "constant", "reflect": "mirror", "circular": "wrap"}  # scipy


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of sums over some hundred values of at most 1."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("taps", [(3, 5), (1, 7), (25, 9)])  # the last is longer than a side
def test_blur_is_a_correlation(padding: Padding, taps: tuple[int, int]) -> None:
    x, kernel = draw(2, 3, 8, 11), draw(*taps, seed=1) / 10
    expected = scipy.ndimage.correlate(
        x.numpy(), kernel.numpy()[None, None], mode=MODES[padding], axes=(0, 1, 2, 3)
    )
    close(Blur(kernel, (8, 11), padding=padding)(x), torch.from_numpy(expected))


@pytest.mark.parametrize("padding", MODES)
def test_a_separable_blur_is_the_blur_of_its_product(padding: Padding) -> None:
    x, kernel = draw(2, 3, 8, 11), draw(5, seed=1) / 5
    full = Blur(kernel[:, None] * kernel, (8, 11), padding=padding)
    close(SeparableBlur(kernel, (8, 11), padding=padding)(x), full(x))


def test_small_singular_values_are_dropped_from_the_operator() -> None:
    kernel = torch.tensor([0.25, 0.5, 0.25])
    whole = SeparableBlur(kernel, [16], padding="zeros")
    # The symmetric Toeplitz matrix of (1/4, 1/2, 1/4) has eigenvalues cos^2(k pi / 34).
    angles = torch.arange(1, 17, dtype=torch.float64) * torch.pi / 34
    close(whole.singular_values, angles.cos().square())
    truncated = SeparableBlur(kernel, [16], padding="zeros", cutoff=0.5)
    assert int((truncated.singular_values > 0).sum()) == 8
    x = draw(1, 16)
    # What is left and what was dropped are orthogonal, and the norm of the latter is below .5.
    left, dropped = truncated(x), whole(x) - truncated(x)
    assert float(dropped.norm()) > 0
    assert abs(float((left * dropped).sum())) < 1e-13
    close(truncated(truncated.pinv(left)), left)


def test_a_single_entry_is_its_own_mirror_image() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    close(Blur(torch.ones(5), [1])(one), 5 * one)


def test_a_varying_blur_is_blended_from_its_blurs() -> None:
    x, kernels = draw(2, 3, 8, 6), draw(2, 3, 3, seed=1)
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    left = (torch.arange(6) < 2).expand(8, 6).double()
    blur = SpatiallyVaryingBlur(kernels, torch.stack([left, 1 - left]))
    first, second = (Blur(kernel, (8, 6)) for kernel in kernels)
    close(blur(x)[..., :2], first(x)[..., :2])
    close(blur(x)[..., 2:], second(x)[..., 2:])
    close(blur(torch.ones_like(x)), torch.ones_like(x))  # weights and kernels sum to 1


def test_downsampling_is_the_mean_of_blocks() -> None:
    x = draw(2, 3, 8, 12)
    operator = Downsampling(4, (8, 12))
    close(operator(x), torch.nn.functional.avg_pool2d(x, 4))
    # Every block has one direction that is seen, with singular value 1/4.
    values = operator.singular_values
    assert int((values > 0).sum()) == 6
    close(values[values > 0], torch.full((6,), 0.25, dtype=torch.float64))
    close(operator.pinv(operator(x)), operator(x).repeat_interleave(4, -1).repeat_interleave(4, -2))


def test_a_matrix_of_one_axis_leaves_the_others_alone() -> None:
    x, matrix = draw(2, 3, 4, 5), draw(2, 3, seed=1)
    close(Separable({-3: matrix})(x), torch.einsum("mc,bchw->bmhw", matrix, x))
    other = draw(4, 5, seed=2)
    both = Separable({-3: matrix, -1: other})(x)
    close(both, torch.einsum("mc,nw,bchw->bmhn", matrix, other, x))


def test_what_is_no_filter_is_refused() -> None:
    for kernel, size in [(torch.ones(2, 3), (8, 8)), (torch.ones(3), (8, 8))]:
        with pytest.raises(ValueError, match="odd length"):
            Blur(kernel, size)
    for kernel in (torch.ones(4), torch.ones(3, 3)):
        with pytest.raises(ValueError, match="odd length"):
            SeparableBlur(kernel, (8, 8))
    with pytest.raises(ValueError, match="padding 'mirror'"):
        Blur(torch.ones(3), [8], padding="mirror")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 kernels and 3 weights"):
        SpatiallyVaryingBlur(torch.ones(2, 3), torch.ones(3, 8))
    with pytest.raises(ValueError, match="multiples of the factor 4"):
        Downsampling(4, (8, 10))
    for axes in ({}, {0: torch.eye(2)}):
        with pytest.raises(ValueError, match="from the end"):
            Separable(axes)


def deepinv_physics(name: str, **kwargs: object) -> Any:
    """An operator of deepinv, another implementation of the same maps, where it is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deepinv = pytest.importorskip("deepinv")
        return getattr(deepinv.physics, name)(**kwargs)


def same_as_deepinv(operator: LinearOperator, physics: Any, x: Tensor, atol: float = 1e-13) -> None:
    y = operator(x)
    torch.testing.assert_close(y, physics.A(x), rtol=0, atol=atol)
    torch.testing.assert_close(operator.adjoint(y), physics.A_adjoint(y), rtol=0, atol=atol)


@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_blur_as_in_deepinv(padding: Padding) -> None:
    kernel = draw(5, 7, seed=1) / 20
    flipped = kernel.flip(0, 1)[None, None]  # theirs is a convolution
    physics = deepinv_physics("Blur", filter=flipped, padding=padding)
    same_as_deepinv(Blur(kernel, (16, 12), padding=padding), physics, draw(2, 3, 16, 12))


def test_varying_blur_as_in_deepinv() -> None:
    kernels, weights = draw(3, 5, 5, seed=1) / 20, draw(3, 16, 12, seed=2)
    physics = deepinv_physics(
        "SpaceVaryingBlur",
        filters=kernels.flip(1, 2)[None, None],
        multipliers=weights[None, None],
        padding="reflect",
        mask_first=False,
    )
    same_as_deepinv(SpatiallyVaryingBlur(kernels, weights), physics, draw(2, 3, 16, 12))


def test_downsampling_as_in_deepinv() -> None:
    box = torch.full((1, 1, 4, 4), 1 / 16, dtype=torch.float64)
    physics = deepinv_physics(
        "Downsampling", img_size=(3, 16, 12), filter=box, factor=4, padding="valid"
    )
    same_as_deepinv(Downsampling(4, (16, 12)), physics, draw(2, 3, 16, 12))


def test_a_channel_mean_as_in_deepinv() -> None:
    weights = [0.3333, 0.3334, 0.3333]
    operator = Separable({-3: torch.tensor([weights], dtype=torch.float64)})
    # Theirs keeps its weights in float32.
    same_as_deepinv(
        operator, deepinv_physics("Decolorize", srf=weights), draw(2, 3, 4, 4), atol=1e-7
    )
