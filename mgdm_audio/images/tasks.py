"""The image restoration tasks of MGDM (arXiv 2502.03332, section 4), by name.

Images are ``[batch, channel, height, width]`` in [-1, 1]; the observation has Gaussian noise of
standard deviation ``NOISE_STD``. A task is a function of the event's shape, a generator and its
options that returns the forward operator. Geometry is given for 256 x 256 and scales with the
image; blur kernels are in pixels and do not.

Published are the centre box, the half and the expand mask, both factors of super-resolution, and
the parameters of colorization, the blurs, JPEG, phase retrieval and high dynamic range. The top,
bottom, middle and random masks are published by name only; their geometry was chosen here, as is
stated at each. The generator of motion kernels was chosen here, too.
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
    """The options of all tasks; each task accepts those that its function names."""

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
    """Returns the forward operator of a task for images ``(channels, height, width)``.

    Random masks, motion kernels and codes are drawn here, once, so that equal states of
    ``generator`` give equal operators. Raises ``UserError`` for an unknown task or option, and for
    an invalid shape or value.
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

    Raises ``UserError`` for a file that cannot be read.
    """
    hashes: dict[str, str | None] = {}
    if isinstance(kernel := options.get(FILE_OPTION), str | os.PathLike):
        hashes[FILE_OPTION] = hash_file(Path(kernel))
    if (network := options.get(CODE_OPTION)) is not None:
        found = BLUR_NETWORKS.find(network) if isinstance(network, str) else network
        hashes[CODE_OPTION] = hash_own_code(found)
    return {option: sha256 for option, sha256 in hashes.items() if sha256}


def require_task(name: str) -> None:
    """Raises UserError, suggesting the nearest name, for an unknown task."""
    if name not in TASKS:
        raise UserError(f"image task {name!r} is unknown{nearest(name, TASKS)}")


def box(shape: Shape, generator: torch.Generator) -> Operator:
    """Masks rows and columns 50..199 of 256, a square of 150."""
    missing = _rectangle(shape, (50, 200), (50, 200))
    return Mask(~missing)


def half(shape: Shape, generator: torch.Generator) -> Operator:
    """Masks the right half, columns 128..255 of 256."""
    return Mask(_rectangle(shape, (0, 256), (0, 128)))


def expand(shape: Shape, generator: torch.Generator) -> Operator:
    """Masks everything except rows and columns 89..166 of 256."""
    return Mask(_rectangle(shape, (89, 167), (89, 167)))


def top(shape: Shape, generator: torch.Generator) -> Operator:
    """Masks the top half, rows 0..127 of 256 (chosen here)."""
    return Mask(_rectangle(shape, (128, 256), (0, 256)))


def bottom(shape: Shape, generator: torch.Generator) -> Operator:
    """Masks the bottom half, rows 128..255 of 256 (chosen here)."""
    return Mask(_rectangle(shape, (0, 128), (0, 256)))


def middle(shape: Shape, generator: torch.Generator) -> Operator:
    """Masks the middle half at full width, rows 64..191 of 256 (chosen here)."""
    return Mask(~_rectangle(shape, (64, 192), (0, 256)))


def random_mask(shape: Shape, generator: torch.Generator, *, missing: float) -> Operator:
    """Masks a share ``missing`` of the pixels, rounded to whole pixels, in all channels at once.

    All sets of that many pixels are equally likely (chosen here).
    """
    if not 0 <= missing < 1:
        raise ValueError(f"missing = {missing}: give a share of the pixels in [0, 1)")
    pixels = shape[1] * shape[2]
    order = torch.randperm(pixels, generator=generator, device=generator.device).cpu()
    kept = order >= round(missing * pixels)
    return Mask(kept.reshape(1, *shape[1:]))


def super_resolution(shape: Shape, generator: torch.Generator, *, factor: int) -> Operator:
    """Observes the mean of every block of ``factor x factor`` pixels."""
    return Downsampling(factor, shape[1:])


def colorization(shape: Shape, generator: torch.Generator) -> Operator:
    """Observes one grey channel, the mean of the three: ``[batch, 1, height, width]``."""
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
    """Compresses colour or grey images by JPEG with a soft rounding; see ``SoftJPEG``.

    ``published`` uses the operator of the published code, which differs from JPEG; on photographs
    at quality 2 the observations of the two differ by 7 to 16 % in norm.
    """
    if shape[0] not in (1, 3):
        raise ValueError(f"{shape[0]} channels: give images of 1, grey, or of 3")
    codec = SoftJPEG(quality, subsampling=subsampling, baseline=baseline, published=published)
    return Idempotent(on_unit_range(codec))


def phase_retrieval(shape: Shape, generator: torch.Generator) -> Operator:
    """Observes the modulus of the Fourier transform of ``(x + 1) / 2``, zero-padded by a quarter.

    ``[batch, channel, 1.5 height, 1.5 width]``, which the literature calls oversampling 2. It is
    the only task with ``symmetries``: shifts on a background of -1, and a half turn.
    """
    return compose(PhaseRetrieval([shape[1] // 4, shape[2] // 4]), Affine(0.5, 0.5))


def high_dynamic_range(shape: Shape, generator: torch.Generator) -> Operator:
    """Observes ``clip(2 x, -1, 1)``, which saturates bright and dark pixels."""
    return compose(Clip(-1, 1), Affine(2, 0))


def denoising(shape: Shape, generator: torch.Generator) -> Operator:
    """Observes all pixels, with noise."""
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
"""Tasks by name: functions of (event shape, generator, keyword options) that return operators."""


def _rectangle(shape: Shape, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Returns a mask of rows and columns ``[start, stop)`` of 256, scaled: ``[1, H, W]``."""
    inside = []
    for length, (start, stop) in zip(shape[1:], (rows, columns), strict=True):
        i = torch.arange(length)
        inside.append((i >= round(start * length / 256)) & (i < round(stop * length / 256)))
    return (inside[0][:, None] & inside[1])[None]


def _require_rgb(shape: Shape) -> None:
    if shape[0] != 3:
        raise ValueError(f"{shape[0]} channels: give images of 3, red, green and blue")
