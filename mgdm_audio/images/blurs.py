"""The blurring tasks and their kernels; the conventions are those of ``tasks``."""

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
    """Blurs by a Gaussian of ``std`` pixels, cut at 4 std, with the image mirrored at its edges.

    It equals the published kernel of 61 x 61, whose other entries are 0.
    """
    return SeparableBlur(_gaussian(std, shape), shape[1:], padding="reflect")


def blur_svd(
    shape: Shape, generator: torch.Generator, *, std: float = 3.0, cutoff: float = 0.03
) -> Operator:
    """Blurs by a Gaussian with zeros beyond the edges; 1-D singular values < cutoff are set to 0.

    The published operator has these singular values to 4e-7 but pairs them with the wrong
    coordinates of colour images: it lists them channel by channel (``repeat``), the coordinates
    pixel by pixel. With ``repeat_interleave`` its observations equal these to 2e-6; as published
    it is another operator, and scores are not comparable.
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
    """Blurs by a random motion kernel or by a file's, with the image mirrored at its edges.

    Random kernels are narrower than the published kernel: their root mean square radius about the
    mean is 8.9 +- 2.2 pixels (mean and standard deviation of seeds 0 to 999), that of the published
    one 13.3. ``kernel`` names a file to use instead, see ``read_kernel``: it is correlated with the
    image, as in the published code, and not scaled to it.
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
    """Blurs by four random motion kernels, one per corner, with bilinear weights (chosen here).

    It replaces the paper's non-uniform blur if that one's network is not available; their scores
    are not comparable. See ``nonlinear_blur``.
    """
    kernels = [motion_kernel(kernel_size, intensity, generator) for _ in range(4)]
    down, right = (torch.linspace(0, 1, length, dtype=torch.float64) for length in shape[1:])
    weights = [row[:, None] * column for row in (1 - down, down) for column in (1 - right, right)]
    return SpatiallyVaryingBlur(torch.stack(kernels), torch.stack(weights), padding="reflect")


def nonlinear_blur(
    shape: Shape, generator: torch.Generator, *, network: str | BlurNetwork
) -> Operator:
    """Blurs by the paper's non-uniform blur, a network with the encoded kernel space of Tran et al.

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
        raise ValueError(f"std = {std}: is wider than the image; give some pixels, such as 3")
    return gaussian_kernel(std)


STEPS = 2000  # points of a path, about 30 per pixel in a kernel of 61


def gaussian_kernel(std: float, truncate: float = 4.0) -> Tensor:
    """Returns a normal density of standard deviation ``std`` pixels, cut at ``truncate * std``.

    It has the shape ``[2 r + 1]``, ``r = round(truncate std)``, float64, and the sum 1. Raises
    ``ValueError`` unless ``std > 0``.
    """
    if not 0 < std < float("inf"):
        raise ValueError(f"std = {std}: give a positive number of pixels, say 3")
    radius = int(truncate * std + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64) / std
    return torch.softmax(-x.square() / 2, 0)


def motion_kernel(size: int, intensity: float, generator: torch.Generator) -> Tensor:
    """Draws a kernel of camera shake ``[size, size]``, float64, with the sum 1.

    The camera moves at unit speed, and its heading is a random walk that turns by ``3 pi
    intensity`` radians (one standard deviation) over the exposure; at 0 the path is a straight line
    in a random direction. The path is as long as the kernel is wide and its bounding box is
    centred, so that it fits. Each of its points is interpolated bilinearly between four pixels.
    Raises ``ValueError`` for an even size or an intensity outside 0..1.
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
