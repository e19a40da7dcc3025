"""PSNR and SSIM by their definitions and against scikit-image; LPIPS only where it is at hand."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from mgdm_audio.images.metrics import ALEXNET, compare, lpips_distance, psnr, ssim
from mgdm_audio.measurement import ShiftsAndTurn


def picture(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1


def test_psnr_of_a_known_error() -> None:
    x = picture(3, 4, 4)
    # An error of .2 everywhere: 10 log10(4 / .04) = 20 dB.
    assert psnr(x + 0.2, x) == pytest.approx(20, abs=1e-5)
    assert psnr(x, x) == float("inf")


@pytest.mark.parametrize("channels", [1, 3])
def test_both_are_scikit_image_s(channels: int) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    x = picture(channels, 16, 21)
    y = (x + 0.3 * picture(channels, 16, 21, seed=1)).clamp(-1, 1)
    a, b = x.double().numpy(), y.double().numpy()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = skimage.structural_similarity(a, b, data_range=2, channel_axis=0, **options)
    assert ssim(x, y) == pytest.approx(theirs, abs=1e-12)  # both in float64
    theirs = skimage.peak_signal_noise_ratio(b, a, data_range=2)
    assert psnr(x, y) == pytest.approx(theirs, abs=1e-9)


def test_ssim_is_1_of_equals_and_symmetric() -> None:
    x, y = picture(1, 12, 12), picture(1, 12, 12, seed=1)
    assert ssim(x, x) == pytest.approx(1, abs=1e-12)
    assert ssim(x, y) == pytest.approx(ssim(y, x), abs=1e-12)
    assert ssim(picture(1, 10, 40), picture(1, 10, 40)) is None  # smaller than the window


def test_what_is_compared_lies_in_the_range() -> None:
    x = torch.ones(1, 12, 12)
    assert compare(1.5 * x, x) == {
        "psnr_db": None, "ssim": 1.0, "psnr_aligned_db": None, "ssim_aligned": 1.0
    }  # fmt: skip


def on_black(size: int = 24, channels: int = 1) -> Tensor:
    """Something in [-1, 1] on a background of exactly -1, away from all edges."""
    x = torch.full((channels, size, size), -1.0)
    x[:, 5:17, 8:18] = picture(channels, 12, 10)
    return x


@pytest.mark.parametrize("channels", [1, 3])
def test_a_copy_that_the_operator_cannot_tell_scores_as_the_image_itself(channels: int) -> None:
    x, moves = on_black(channels=channels), ShiftsAndTurn((6, 6), background=-1.0)
    for copy in (
        x.roll((7, -8), (-2, -1)),  # to both edges
        x.flip(-2, -1),
        x.flip(-2, -1).roll((-2, 3), (-2, -1)),
        x,
    ):
        found = compare(copy, x, symmetries=moves)
        assert (found["psnr_aligned_db"], found["ssim_aligned"]) == (None, 1.0)  # no error at all
        plain = compare(copy, x)
        assert (found["psnr_db"], found["ssim"]) == (plain["psnr_db"], plain["ssim"])
    # One of them beyond the edge has lost a part, and a mirrored one is another image.
    for other in (x.roll(8, -2), x.flip(-1)):
        assert compare(other, x, symmetries=moves)["psnr_aligned_db"] is not None


def test_an_aligned_score_is_the_best_and_never_below_the_plain_one() -> None:
    reference, moves = on_black(), ShiftsAndTurn((6, 6), background=-1.0)
    every = moves.nearest(reference, reference, 10**6)
    for seed, strength in ((1, 0.2), (2, 1.0), (3, 2.0)):
        x = (reference.roll(2, -1) + strength * picture(1, 24, 24, seed=seed)).clamp(-1, 1)
        found = compare(x, reference, symmetries=moves)
        best = max(psnr(x, moved) for moved in every)
        assert found["psnr_aligned_db"] == pytest.approx(best, abs=6e-4)  # rounded to 1e-3
        plain = compare(x, reference)
        for aligned, name in (("psnr_aligned_db", "psnr_db"), ("ssim_aligned", "ssim")):
            assert plain[aligned] == plain[name]  # without symmetries
            assert found[aligned] >= found[name]  # type: ignore[operator]


def test_ssim_is_the_best_of_the_nearest_and_the_image_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mgdm_audio.images.metrics.NEAREST", 3)
    reference, moves = on_black(), ShiftsAndTurn((6, 6), background=-1.0)
    x = (reference.roll((3, 1), (-2, -1)) + 0.8 * picture(1, 24, 24, seed=1)).clamp(-1, 1)
    near = [reference, *moves.nearest(x, reference, 3)]
    best = max(ssim(x, moved) or 0.0 for moved in near)
    found = compare(x, reference, symmetries=moves)
    assert found["ssim_aligned"] == pytest.approx(best, abs=6e-5)  # rounded to 1e-4
    # Of an image that is nearest to itself, SSIM is the plain one at least.
    assert (compare(-reference, reference, symmetries=moves)["ssim_aligned"] or -1) >= (
        ssim(-reference, reference) or 0.0
    )


def test_lpips_is_left_out_where_its_weights_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class LPIPS(nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            made.append(net)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            assert a.shape == b.shape == (1, 3, 4, 4)
            return (a - b).abs().mean().view(1, 1, 1, 1)

    module = ModuleType("lpips")
    module.LPIPS = LPIPS  # type: ignore[attr-defined]
    module.__spec__ = __import__("importlib.util").util.spec_from_loader("lpips", None)
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert lpips_distance() is None
    assert not made  # making one would fetch the weights
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ALEXNET).touch()
    distance = lpips_distance()
    assert distance is not None
    assert made == ["alex"]
    x = torch.zeros(1, 4, 4)
    assert compare(x + 0.5, x, distance) == {
        "psnr_db": 12.041, "ssim": None, "psnr_aligned_db": 12.041, "ssim_aligned": None,
        "lpips": 0.5,
    }  # fmt: skip
