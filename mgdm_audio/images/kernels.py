"""Blur kernels: the Gaussian, and the trace of a camera that was not held still."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mgdm_audio.rng import randn

STEPS = 2000  # points of a path: some thirty a pixel in a kernel of 61


def gaussian_kernel(std: float, truncate: float = 4.0) -> Tensor:
    """The normal density of standard deviation ``std`` pixels, cut at ``truncate`` of them.

    ``[2 r + 1]`` with ``r = round(truncate std)``, float64, of sum 1. Raises ``ValueError`` unless
    ``std > 0``.
    """
    if not 0 < std < float("inf"):
        raise ValueError(f"std = {std}: give a positive number of pixels, say 3")
    radius = int(truncate * std + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64) / std
    return torch.softmax(-x.square() / 2, 0)


def motion_kernel(size: int, intensity: float, generator: torch.Generator) -> Tensor:
    """The share of the exposure that a shaken camera spends on each pixel: ``[size, size]``.

    A path of unit speed whose heading is a random walk: it turns by ``3 pi intensity`` radians (one
    standard deviation) over the exposure, so that 0 draws a straight line of a random direction.
    The path is as long as the kernel is wide and its bounding box is centred, so that it fits.
    Each of its points is shared between the four pixels around it. float64, of sum 1. Raises
    ``ValueError`` for an even size or an intensity outside 0..1.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"kernel size {size}: give an odd number of pixels, say 61")
    if not 0 <= intensity <= 1:
        raise ValueError(f"intensity = {intensity}: give a number from 0 (straight) to 1")
    start = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device).cpu()
    noise = randn((STEPS,), generator=generator, dtype=torch.float64)
    turn = 3 * math.pi * intensity / math.sqrt(STEPS) * noise.cumsum(0)
    heading = 2 * math.pi * start + turn
    path = (size - 1) / STEPS * torch.stack([heading.sin(), heading.cos()]).cumsum(1)
    middle = (path.amin(1, keepdim=True) + path.amax(1, keepdim=True)) / 2
    path = path - middle + (size - 1) / 2
    # A pixel's weight falls linearly to 0 at its neighbours, along both axes.
    pixels = torch.arange(size, dtype=torch.float64)[:, None]
    rows, columns = (1 - (pixels - path[:, None]).abs()).clamp_min(0)
    return rows @ columns.T / STEPS
