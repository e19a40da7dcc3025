"""Similarity metrics of images ``[channel, height, width]`` in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.images.blurs import gaussian_kernel
from mgdm_audio.measurement import ShiftsAndTurn

RANGE = 2.0  # of values
WINDOW, STD = 11, 1.5  # of SSIM, pixels
NEAREST = 32  # number of equivalent images, those of the highest PSNR, whose SSIM is computed
ALEXNET = "alexnet-owt-7be5be79.pth"  # torchvision's name of the weights that LPIPS uses

Distance = Callable[[Tensor, Tensor], float]


def psnr(x: Tensor, reference: Tensor) -> float:
    """Returns the PSNR in dB, ``10 log10(range^2 / mean squared error)``; inf if equal."""
    error = (x.double() - reference.double()).square().mean()
    return float(10 * (RANGE**2 / error).log10())


def ssim(x: Tensor, reference: Tensor) -> float | None:
    """Returns the structural similarity (Wang et al. 2004), a mean over channels and windows.

    The window is Gaussian, 11 x 11 with a standard deviation of 1.5 pixels, at all positions inside
    the image; K_1 = .01, K_2 = .03. It is None for an image smaller than the window.
    """
    if min(x.shape[-2:]) < WINDOW:
        return None
    weights = gaussian_kernel(STD, truncate=(WINDOW // 2) / STD)

    def mean(values: Tensor) -> Tensor:
        rows = F.conv2d(values[:, None], weights.view(1, 1, -1, 1))
        return F.conv2d(rows, weights.view(1, 1, 1, -1))

    a, b = x.double().cpu(), reference.double().cpu()
    c_1, c_2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c_1) / (mean_a**2 + mean_b**2 + c_1)
    structure = (2 * covariance + c_2) / (var_a + var_b + c_2)
    return float((luminance * structure).mean())


def lpips_distance() -> Distance | None:
    """Returns LPIPS on AlexNet (Zhang et al. 2018), or None where it is not installed.

    It needs the package ``lpips`` and AlexNet's weights in the cache of torch.hub; nothing is
    fetched here.
    """
    weights = Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET
    if find_spec("lpips") is None or not weights.is_file():
        return None
    import lpips

    network = lpips.LPIPS(net="alex", verbose=False).eval().requires_grad_(False)

    def distance(x: Tensor, reference: Tensor) -> float:
        pair = [part.detach().cpu().float().expand(3, -1, -1)[None] for part in (x, reference)]
        return float(network(*pair))

    return distance


def compare(
    x: Tensor,
    reference: Tensor,
    lpips: Distance | None = None,
    symmetries: ShiftsAndTurn | None = None,
) -> dict[str, float | None]:
    """Returns all metrics by name, rounded; ``lpips`` only if it is given.

    ``psnr_aligned_db`` and ``ssim_aligned`` are the best over the images with the same observation
    as ``reference``, by the operator's ``symmetries``: PSNR over all of them, SSIM over the
    ``NEAREST`` by PSNR and ``reference`` itself. They are at least the other scores, and equal to
    them without symmetries. LPIPS is not aligned.
    """
    x, reference = x.clamp(-1, 1), reference.clamp(-1, 1)
    moved = [] if symmetries is None else symmetries.nearest(x, reference, NEAREST)
    result: dict[str, float | None] = {}
    result["psnr_db"], result["ssim"] = _best(x, [reference])
    result["psnr_aligned_db"], result["ssim_aligned"] = _best(x, [reference, *moved])
    return result if lpips is None else result | {"lpips": round(lpips(x, reference), 4)}


def _best(x: Tensor, references: list[Tensor]) -> tuple[float | None, float | None]:
    """Returns the largest PSNR in dB and the largest SSIM over the references, rounded."""
    ratio = max(psnr(x, reference) for reference in references)
    similarities = [ssim(x, reference) for reference in references]
    known = [value for value in similarities if value is not None]
    return (
        round(ratio, 3) if ratio < float("inf") else None,  # JSON has no infinity
        round(max(known), 4) if known else None,
    )
