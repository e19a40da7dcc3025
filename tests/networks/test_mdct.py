"""The MDCT against its definition and against what makes it an isometry."""

import math

import pytest
import torch
from torch import Tensor

from mgdm_audio.networks.mdct import MDCT
from mgdm_audio.networks.mdct_matrices import MDCTMatrices

# The transform's tables are float32: an N-term sum of them is good to a few 1e-7 of its norm.
FLOAT32 = 2e-6
SHAPES = [(2, 1), (6, 4), (16, 5), (64, 9), (100, 3)]  # bins, frames' worth of samples


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_definition(x: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Princen & Bradley's sums, term by term, O(N^2) a frame, in float64."""
    n = torch.arange(2 * bins, dtype=torch.float64)
    k = torch.arange(bins, dtype=torch.float64)
    angle = math.pi / bins * torch.outer(k + 0.5, n + 0.5 + bins / 2)
    window = torch.sin(math.pi * (n + 0.5) / (2 * bins)) * math.sqrt(2 / bins)
    padded = torch.cat([x.new_zeros(bins), x, x.new_zeros(bins)])
    frames = [padded[i : i + 2 * bins] * window for i in range(0, len(x) + 1, bins)]
    return (
        torch.stack([angle.cos() @ frame for frame in frames]),
        torch.stack([-angle.sin() @ frame for frame in frames]),
    )


@pytest.mark.parametrize("kind", [MDCT, MDCTMatrices])
@pytest.mark.parametrize(("bins", "count"), SHAPES)
def test_it_is_the_sum_of_its_definition(
    kind: type[MDCT | MDCTMatrices], bins: int, count: int
) -> None:
    x = noise(bins * count).float()
    for got, want in zip(kind(bins)(x), by_definition(x.double(), bins), strict=True):
        assert got.shape == (count + 1, bins)
        assert (got - want).norm() < FLOAT32 * x.norm()


@pytest.mark.parametrize("kind", [MDCT, MDCTMatrices])
@pytest.mark.parametrize(("bins", "count"), SHAPES)
def test_it_keeps_norms_and_is_undone_by_its_adjoint(
    kind: type[MDCT | MDCTMatrices], bins: int, count: int
) -> None:
    mdct = kind(bins)
    x, c = noise(3, bins * count).float(), noise(3, count + 1, bins, seed=1).float()
    z, _ = mdct(x)
    assert abs(z.norm() / x.norm() - 1) < FLOAT32
    assert (mdct.inverse(z) - x).norm() < FLOAT32 * x.norm()
    # <Phi x, c> = <x, Phi^T c> for a c that is no signal's transform.
    scale = float(x.norm() * c.norm())
    assert abs(float((z * c).sum() - (x * mdct.inverse(c)).sum())) < FLOAT32 * scale


def test_coefficients_of_inner_frames_are_an_orthonormal_basis() -> None:
    # So white noise of standard deviation sigma has sigma on every coefficient, uncorrelated.
    bins, count = 8, 6
    units = torch.eye((count + 1) * bins, dtype=torch.float64).view(-1, count + 1, bins)
    basis = MDCT(bins).inverse(units)[bins:-bins]  # without the two half-cut frames at the ends
    gram = basis @ basis.T
    assert (gram - torch.eye(len(gram), dtype=torch.float64)).abs().max() < FLOAT32


def test_a_shift_by_a_hop_is_a_shift_by_a_frame() -> None:
    mdct, x = MDCT(16), noise(16 * 6)
    shifted = torch.cat([x.new_zeros(16), x])
    for a, b in zip(mdct(x), mdct(shifted), strict=True):
        assert (b[1:] - a).norm() < FLOAT32 * x.norm()
        assert b[0].count_nonzero() == 0


def test_the_mdst_completes_a_partial_to_a_steady_power() -> None:
    bins = 128
    t = torch.arange(bins * 40, dtype=torch.float64)
    # Its mirror image, 2 x 60 bins off, leaks in at 1 / 120^2 by the sine window's decay.
    x = torch.sin(math.pi / bins * 60.73 * t + 0.3)
    z, quadrature = (part[1:-1, 60] for part in MDCT(bins)(x))
    power = z**2 + quadrature**2
    assert power.max() / power.min() < 1 + 4 / 120**2
    assert (z**2).max() > 100 * (z**2).min()  # the MDCT alone passes through its zeros


def test_leading_dimensions_are_left_alone() -> None:
    mdct, x = MDCT(8), noise(2, 3, 40)
    z, quadrature = mdct(x)
    assert z.shape == quadrature.shape == (2, 3, 6, 8)
    torch.testing.assert_close(z[1, 2], mdct(x[1, 2])[0])
    torch.testing.assert_close(mdct.inverse(z)[1, 2], mdct.inverse(z[1, 2]))


def test_it_has_nothing_to_save_and_a_gradient_that_is_its_adjoint() -> None:
    mdct = MDCT(8)
    assert mdct.state_dict() == {}
    x, c = noise(40).requires_grad_(), noise(6, 8, seed=1)
    (gradient,) = torch.autograd.grad((mdct(x)[0] * c).sum(), x)
    assert (gradient - mdct.inverse(c)).norm() < FLOAT32 * c.norm()


@pytest.mark.parametrize("kind", [MDCT, MDCTMatrices])
def test_an_odd_number_of_bins_is_refused(kind: type[MDCT | MDCTMatrices]) -> None:
    with pytest.raises(ValueError, match="bins = 3: give an even number"):
        kind(3)
