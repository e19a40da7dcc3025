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
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor

from mgdm_audio.config import convert, nearest
from mgdm_audio.digest import hash_file, hash_own_code
from mgdm_audio.errors import UserError
from mgdm_audio.images.blurs import (
    BLUR_NETWORKS,
    Shape,
    blur,
    blur_svd,
    motion_blur,
    nonlinear_blur,
    nonuniform_blur,
)
from mgdm_audio.measurement.filtering import Downsampling
from mgdm_audio.measurement.jpeg import SoftJPEG
from mgdm_audio.measurement.masking import Mask
from mgdm_audio.measurement.nonlinear import (
    Affine,
    Clip,
    Idempotent,
    PhaseRetrieval,
    on_unit_range,
)
from mgdm_audio.measurement.operator import Operator, compose
from mgdm_audio.measurement.separable import Separable

NOISE_STD = 0.05  # sigma_y of every task, for images in [-1, 1]
FILE_OPTION, CODE_OPTION = "kernel", "network"  # what they name, or are, is hashed


class TaskOptions(TypedDict, total=False):
    """Options of the tasks, each of those that name it."""

    missing: float
    factor: int
    quality: int
    subsampling: Literal["4:2:0", "4:4:4"]
    baseline: bool
    published: bool
    std: float
    cutoff: float
    kernel_size: int
    intensity: float
    kernel: str | os.PathLike[str] | None
    network: str | os.PathLike[str] | Callable[[Tensor, Tensor], Tensor]


def build_operator(
    name: str,
    event_shape: Sequence[int],
    *,
    generator: torch.Generator,
    **options: Unpack[TaskOptions],
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
    values = {
        k: convert(hints[k], os.fspath(v) if isinstance(v, os.PathLike) else v, f"{who}: {k}")
        for k, v in options.items()
    }
    try:
        return task(shape, generator, **values)
    except (ValueError, UserError) as error:
        raise UserError(f"{who}: {error}") from error


def option_hashes(options: Mapping[str, Any]) -> dict[str, str]:
    """Option -> SHA-256 of the file that it names, or of the user's code that it names or is.

    Raises ``UserError`` where one cannot be read.
    """
    hashes: dict[str, str | None] = {}
    if isinstance(kernel := options.get(FILE_OPTION), str | os.PathLike):
        hashes[FILE_OPTION] = hash_file(Path(kernel))
    if (network := options.get(CODE_OPTION)) is not None:
        found = BLUR_NETWORKS.find(network) if isinstance(network, str) else network
        hashes[CODE_OPTION] = hash_own_code(found)
    return {option: sha256 for option, sha256 in hashes.items() if sha256}


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


def jpeg(
    shape: Shape,
    generator: torch.Generator,
    *,
    quality: int = 2,
    subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0",
    baseline: bool = False,
    published: bool = False,
) -> Operator:
    """JPEG at ``quality`` with a soft rounding, colour or grey; see ``SoftJPEG``.

    ``published``: the operator of the published code, which is not quite JPEG; of photographs at
    quality 2, what the two observe differs by 7 to 16 % of its norm.
    """
    if shape[0] not in (1, 3):
        raise ValueError(f"{shape[0]} channels: give images of 1, grey, or of 3")
    codec = SoftJPEG(quality, subsampling=subsampling, baseline=baseline, published=published)
    return Idempotent(on_unit_range(codec))


def phase_retrieval(shape: Shape, generator: torch.Generator) -> Operator:
    """The modulus of the Fourier transform of ``(x + 1) / 2`` with a quarter of zeros on each side.

    ``[batch, channel, 1.5 height, 1.5 width]``: oversampling 2 in the literature's terms. It is
    the one task that cannot tell an image from the same one moved: its ``symmetries`` are the
    shifts on a background of -1, and the turn by 180 degrees.
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
