"""The tasks that blur images, and their kernels; what ``tasks`` says holds for these."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mgdm_audio.images.io import read_kernel
from mgdm_audio.measurement.filtering import Blur, SeparableBlur, SpatiallyVaryingBlur
from mgdm_audio.measurement.nonlinear import Clip, Function, on_unit_range
from mgdm_audio.measurement.operator import Operator, compose
from mgdm_audio.registry import Registry
from mgdm_audio.rng import randn

Shape = tuple[int, int, int]
"""``(channels, height, width)``."""
BlurNetwork = Callable[[Tensor, Tensor], Tensor]
"""``(image [batch, *shape] in [0, 1], code [batch, 512, 2, 2]) -> image``."""
BLUR_NETWORKS: Registry[BlurNetwork] = Registry(
    "blur network",
    "mgdm_audio.images.blur_networks",
    lambda value: None if callable(value) else "is no function of an image and a code",
    {},
)
"""By name, for the command line: a file with a network's code in it is never run."""


def blur(shape: Shape, generator: torch.Generator, *, std: float = 3.0) -> Operator:
    """A Gaussian of ``std`` pixels, cut at 4 std, the image mirrored at its edges.

    That is the published kernel of 61 x 61, which is 0 further out.
    """
    return SeparableBlur(_gaussian(std, shape), shape[1:], padding="reflect")


def blur_svd(
    shape: Shape, generator: torch.Generator, *, std: float = 3.0, cutoff: float = 0.03
) -> Operator:
    """The Gaussian with nothing beyond the edges; one-dimensional singular values < cutoff are 0.

    The published operator has these singular values to 4e-7 but pairs them with the wrong
    coordinates of colour images: it lists them channel by channel (``repeat``), the coordinates
    pixel by pixel. Listed pixel by pixel (``repeat_interleave``), what it observes is this to
    2e-6; as published it is another operator, whose scores do not compare.
    """
    return SeparableBlur(_gaussian(std, shape), shape[1:], padding="zeros", cutoff=cutoff)


def motion_blur(
    shape: Shape,
    generator: torch.Generator,
    *,
    kernel_size: int = 61,
    intensity: float = 0.5,
    kernel: str | None = None,
) -> Operator:
    """A random motion kernel, or that of a file, the image mirrored at its edges.

    Drawn kernels are narrower than the one published kernel: the root mean square distance of
    their weight from its mean is 8.9 +- 2.2 pixels (mean and standard deviation of seeds 0 to
    999), of that one 13.3. ``kernel`` names a file to use in their place, see ``read_kernel``: it
    is correlated with the image, as by the published code, and not scaled to it.
    """
    if kernel is None:
        taps = motion_kernel(kernel_size, intensity, generator)
    elif (kernel_size, intensity) == (61, 0.5):
        taps = read_kernel(kernel)
    else:
        raise ValueError(f"kernel {kernel} has its own size; leave kernel_size and intensity out")
    return Blur(taps, shape[1:], padding="reflect")


def nonuniform_blur(
    shape: Shape, generator: torch.Generator, *, kernel_size: int = 31, intensity: float = 0.5
) -> Operator:
    """Four random motion kernels, one a corner, blended bilinearly in between (our choice).

    It stands in for the paper's non-uniform blur where that one's network is not at hand; scores
    of the two do not compare. See ``nonlinear_blur``.
    """
    kernels = [motion_kernel(kernel_size, intensity, generator) for _ in range(4)]
    down, right = (torch.linspace(0, 1, length, dtype=torch.float64) for length in shape[1:])
    weights = [row[:, None] * column for row in (1 - down, down) for column in (1 - right, right)]
    return SpatiallyVaryingBlur(torch.stack(kernels), torch.stack(weights), padding="reflect")


def nonlinear_blur(
    shape: Shape, generator: torch.Generator, *, network: str | BlurNetwork
) -> Operator:
    """The paper's non-uniform blur: a learned one, of the encoded kernel space of Tran et al.

    ``network(image in [0, 1], code) -> image in [0, 1]``, differentiable, is to be had from the
    authors of "Explore image deblurring via encoded blur kernel space" (arXiv 2104.00317); this
    package has neither its code nor its weights. ``network`` may also be the name under which it is
    in ``BLUR_NETWORKS``. The code is ``1.2 N(0, I)`` of ``[batch, 512, 2, 2]``, drawn once and the
    same for all images, so that ``y`` and every gradient see one operator.
    """
    code = 1.2 * randn((1, 512, 2, 2), generator=generator)
    function = BLUR_NETWORKS.find(network) if isinstance(network, str) else network

    def blurred(x: Tensor) -> Tensor:
        return function(x, code.to(x).expand(len(x), -1, -1, -1))

    return compose(Clip(-1, 1), on_unit_range(Function(blurred)))


def _gaussian(std: float, shape: Shape) -> Tensor:
    if std > max(shape[1:]):
        raise ValueError(f"std = {std}: is wider than the image; give some pixels, say 3")
    return gaussian_kernel(std)


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
