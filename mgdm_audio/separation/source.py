"""Converts samples in any kind of array to a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgdm_audio.errors import UserError

MAX_CHANNELS = 64


def as_samples(source: Any) -> Tensor:
    """Converts a tensor, a numpy array or an array-like to [channel, time >= 1], float32.

    [time] is one channel. Rows are channels; [time, channel], the layout of soundfile, is
    transposed where it is certain: more than ``MAX_CHANNELS`` rows and at most as many columns.
    Raises UserError for another shape, for integers and complex numbers, and for samples that are
    not finite.
    """
    x = source.detach() if isinstance(source, Tensor) else _converted(source)
    if x.dtype.is_complex or not x.dtype.is_floating_point:
        raise UserError(
            f"samples of {x.dtype}: give floats of full scale 1.0, for example int16 / 32768"
        )
    x = x[None] if x.ndim == 1 else x
    shape = tuple(x.shape)
    if x.ndim != 2 or not x.numel():
        raise UserError(f"samples of shape {shape}: give [channel, time >= 1] or [time]")
    rows, columns = shape
    if rows > MAX_CHANNELS and columns <= MAX_CHANNELS:
        x = x.T
    elif rows > MAX_CHANNELS:
        raise UserError(
            f"samples of shape {shape}: more than {MAX_CHANNELS} channels; give [channel, time]"
        )
    elif columns < rows and rows > 2:
        raise UserError(
            f"samples of shape {shape}: fewer samples than channels; give [channel, time], "
            "transposed if these are [time, channel]"
        )
    x = x.to("cpu", torch.float32).contiguous()
    require_finite(x)
    return x


def _converted(source: Any) -> Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(source))
    except (TypeError, ValueError) as error:
        kind = type(source).__name__
        raise UserError(f"samples given as {kind}: not an array of numbers ({error})") from None


def require_finite(samples: Tensor) -> None:
    """Raises UserError unless all samples are finite."""
    if not samples.isfinite().all():
        raise UserError("the samples are not all finite numbers; repair them first")
