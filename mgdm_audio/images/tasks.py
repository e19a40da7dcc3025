"""The image restoration tasks of MGDM (arXiv 2502.03332, section 4) by name: what is observed.

Images are ``[batch, channel, height, width]`` in [-1, 1]; the observation carries Gaussian noise of
standard deviation ``NOISE_STD``. A task is a function of the event's shape, a generator and its
options, which makes the operator. Geometry is given for 256 x 256 and scales with the image; blur
kernels are in pixels and do not.

Published: the centre box, the half and the expand mask, both factors of super-resolution, and the
parameters of colorization, of the blurs, of JPEG, of phase retrieval and of high dynamic range.
The masks named top, bottom and middle and the random ones are published by name alone; what they
hide here is our choice, stated at each. So are the motion kernels, drawn by our own generator.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from mgdm_audio.config import convert, nearest
from mgdm_audio.errors import UserError
from mgdm_audio.images.kernels import gaussian_kernel, motion_kernel
from mgdm_audio.images.program import load_program
from mgdm_audio.measurement.filtering import (
    Blur,
    Downsampling,
    SeparableBlur,
    SpatiallyVaryingBlur,
)
from mgdm_audio.measurement.jpeg import SoftJPEG
from mgdm_audio.measurement.masking import Mask
from mgdm_audio.measurement.nonlinear import (
    Affine,
    Clip,
    Function,
    Idempotent,
    PhaseRetrieval,
)
from mgdm_audio.measurement.operator import Operator, compose
from mgdm_audio.measurement.separable import Separable
from mgdm_audio.rng import randn

NOISE_STD = 0.05  # sigma_y of every task, for images in [-1, 1]

Shape = tuple[int, int, int]
"""``(channels, height, width)``."""


def build_operator(
    name: str, event_shape: Sequence[int], *, generator: torch.Generator, **options: Any
) -> Operator:
    """The operator of a task for images ``(channels, height, width)``.

    The same ``generator`` state gives the same operator: random masks, motion kernels and codes
    are drawn once, here. Raises ``UserError`` for an unknown task or option, or a shape or a value
    that the task cannot take.
    """
    require_task(name)
    task, who = TASKS[name], f"image task {name!r}"
    shape = tuple(event_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"{who}: shape {shape}: give channels, height, width")
    parameters = inspect.signature(task).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    for option in options:
        if option not in known:
            hint = nearest(option, known) if known else ": it takes none"
            raise UserError(f"{who}: option {option!r}{hint}")
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in options:
            raise UserError(f"{who}: give its option {option!r}")
    hints = typing.get_type_hints(task.func if isinstance(task, partial) else task)
    options = {k: convert(hints[k], v, f"{who}: {k}") for k, v in options.items()}
    try:
        return task(shape, generator, **options)
    except ValueError as error:
        raise UserError(f"{who}: {error}") from error


def require_task(name: str) -> None:
    """UserError, naming the nearest, for what is no task."""
    if name not in TASKS:
        raise UserError(f"image task {name!r} is unknown{nearest(name, TASKS)}")


def box(shape: Shape, generator: torch.Generator) -> Operator:
    """Rows and columns 50..199 of 256 are missing: a square of 150."""
    missing = _rectangle(shape, (50, 200), (50, 200))
    return Mask(~missing)


def half(shape: Shape, generator: torch.Generator) -> Operator:
    """The right half is missing: columns 128..255 of 256."""
    return Mask(_rectangle(shape, (0, 256), (0, 128)))


def expand(shape: Shape, generator: torch.Generator) -> Operator:
    """All but rows and columns 89..166 of 256 is missing."""
    return Mask(_rectangle(shape, (89, 167), (89, 167)))


def top(shape: Shape, generator: torch.Generator) -> Operator:
    """The top half is missing, rows 0..127 of 256 (our choice)."""
    return Mask(_rectangle(shape, (128, 256), (0, 256)))


def bottom(shape: Shape, generator: torch.Generator) -> Operator:
    """The bottom half is missing, rows 128..255 of 256 (our choice)."""
    return Mask(_rectangle(shape, (0, 128), (0, 256)))


def middle(shape: Shape, generator: torch.Generator) -> Operator:
    """The middle half is missing at full width, rows 64..191 of 256 (our choice)."""
    return Mask(~_rectangle(shape, (64, 192), (0, 256)))


def random_mask(shape: Shape, generator: torch.Generator, *, missing: float) -> Operator:
    """A share ``missing`` of the pixels, exact to one pixel, in all channels at once.

    Every set of that many pixels is as likely as any other (our choice).
    """
    if not 0 <= missing < 1:
        raise ValueError(f"missing = {missing}: give a share of the pixels in [0, 1)")
    pixels = shape[1] * shape[2]
    order = torch.randperm(pixels, generator=generator, device=generator.device).cpu()
    kept = order >= round(missing * pixels)
    return Mask(kept.reshape(1, *shape[1:]))


def super_resolution(shape: Shape, generator: torch.Generator, *, factor: int) -> Operator:
    """The mean of every block of ``factor x factor`` pixels."""
    return Downsampling(factor, shape[1:])


def colorization(shape: Shape, generator: torch.Generator) -> Operator:
    """One grey channel, the mean of the three: ``[batch, 1, height, width]``."""
    _require_rgb(shape)
    return Separable({-3: torch.tensor([[0.3333, 0.3334, 0.3333]], dtype=torch.float64)})


def blur(shape: Shape, generator: torch.Generator, *, std: float = 3.0) -> Operator:
    """A Gaussian of ``std`` pixels, cut at 4 std, the image mirrored at its edges.

    That is the published kernel of 61 x 61, which is 0 further out.
    """
    return SeparableBlur(_gaussian(std, shape), shape[1:], padding="reflect")


def blur_svd(
    shape: Shape, generator: torch.Generator, *, std: float = 3.0, cutoff: float = 0.03
) -> Operator:
    """The Gaussian with nothing beyond the edges; one-dimensional singular values < cutoff are 0.

    The published matrix drops the last tap of its kernel; ours does not.
    """
    return SeparableBlur(_gaussian(std, shape), shape[1:], padding="zeros", cutoff=cutoff)


def motion_blur(
    shape: Shape, generator: torch.Generator, *, kernel_size: int = 61, intensity: float = 0.5
) -> Operator:
    """A random motion kernel, the image mirrored at its edges."""
    kernel = motion_kernel(kernel_size, intensity, generator)
    return Blur(kernel, shape[1:], padding="reflect")


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
    shape: Shape, generator: torch.Generator, *, network: str | Callable[[Tensor, Tensor], Tensor]
) -> Operator:
    """The paper's non-uniform blur: a learned one, of the encoded kernel space of Tran et al.

    ``network(image in [0, 1], code) -> image in [0, 1]``, to be had from the authors of "Explore
    image deblurring via encoded blur kernel space" (arXiv 2104.00317); this package has neither
    its code nor its weights. Or the name of a file to which ``torch.export.save`` wrote it,

        one = torch.export.Dim("batch")
        program = torch.export.export(network, (image, code), dynamic_shapes=({0: one}, {0: one}))

    with ``image: [2, *shape]`` and ``code: [2, 512, 2, 2]``. The code here is ``1.2 N(0, I)`` of
    ``[batch, 512, 2, 2]``, drawn once and the same for all images, so that ``y`` and every gradient
    see one operator.
    """
    code = 1.2 * randn((1, 512, 2, 2), generator=generator)
    if isinstance(network, str):
        network = load_program(network)

    def blurred(x: Tensor) -> Tensor:
        return network(x, code.to(x).expand(len(x), -1, -1, -1))

    return compose(Clip(-1, 1), _in_unit_range(Function(blurred)))


def jpeg(
    shape: Shape,
    generator: torch.Generator,
    *,
    quality: int = 2,
    subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0",
    baseline: bool = False,
) -> Operator:
    """JPEG at ``quality`` with a soft rounding, colour or grey; see ``SoftJPEG``."""
    if shape[0] not in (1, 3):
        raise ValueError(f"{shape[0]} channels: give images of 1, grey, or of 3")
    return Idempotent(_in_unit_range(SoftJPEG(quality, subsampling=subsampling, baseline=baseline)))


def phase_retrieval(shape: Shape, generator: torch.Generator) -> Operator:
    """The modulus of the Fourier transform of ``(x + 1) / 2`` with a quarter of zeros on each side.

    ``[batch, channel, 1.5 height, 1.5 width]``: oversampling 2 in the literature's terms.
    """
    return compose(PhaseRetrieval([shape[1] // 4, shape[2] // 4]), Affine(0.5, 0.5))


def high_dynamic_range(shape: Shape, generator: torch.Generator) -> Operator:
    """``clip(2 x, -1, 1)``: the bright and the dark are lost."""
    return compose(Clip(-1, 1), Affine(2, 0))


def denoising(shape: Shape, generator: torch.Generator) -> Operator:
    """Everything is observed, with noise."""
    return Mask(torch.ones(1, 1, 1))


TASKS: Mapping[str, Callable[..., Operator]] = MappingProxyType(
    {
        "inpainting_center": box,
        "inpainting_middle": middle,
        "outpainting_half": half,
        "outpainting_top": top,
        "outpainting_bottom": bottom,
        "outpainting_expand": expand,
        "random_95": partial(random_mask, missing=0.95),
        "random_99": partial(random_mask, missing=0.99),
        "sr4": partial(super_resolution, factor=4),
        "sr16": partial(super_resolution, factor=16),
        "colorization": colorization,
        "blur": blur,
        "blur_svd": blur_svd,
        "motion_blur": motion_blur,
        "nonuniform_blur": nonuniform_blur,
        "nonlinear_blur": nonlinear_blur,
        "jpeg": jpeg,
        "phase_retrieval": phase_retrieval,
        "high_dynamic_range": high_dynamic_range,
        "denoising": denoising,
    }
)
"""Name -> function of (event shape, generator, options by keyword) -> operator."""


def _in_unit_range(operator: Operator) -> Operator:
    """An operator on [0, 1] made one on [-1, 1]."""
    return compose(Affine(2, -1), compose(operator, Affine(0.5, 0.5)))


def _gaussian(std: float, shape: Shape) -> Tensor:
    if std > max(shape[1:]):
        raise ValueError(f"std = {std}: is wider than the image; give some pixels, say 3")
    return gaussian_kernel(std)


def _rectangle(shape: Shape, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """True in rows and columns ``[start, stop)`` of 256, scaled to the image: ``[1, H, W]``."""
    inside = []
    for length, (start, stop) in zip(shape[1:], (rows, columns), strict=True):
        i = torch.arange(length)
        inside.append((i >= round(start * length / 256)) & (i < round(stop * length / 256)))
    return (inside[0][:, None] & inside[1])[None]


def _require_rgb(shape: Shape) -> None:
    if shape[0] != 3:
        raise ValueError(f"{shape[0]} channels: give images of 3, red, green and blue")
