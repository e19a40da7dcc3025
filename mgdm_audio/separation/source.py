"""What a mixture may be given as: a path, or samples in any kind of array."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgdm_audio.errors import UserError

MAX_CHANNELS = 64


def as_samples(source: Any) -> Tensor:
    """A tensor, a numpy array or what numpy makes one of -> [channel, time >= 1], float32.

    [time] is one channel. Rows are channels; [time, channel], as soundfile reads it, is transposed
    where there can be no doubt: more rows than ``MAX_CHANNELS`` and no more columns. Raises
    UserError for another shape, for what are no floats (integers have a full scale of their own),
    and for samples that are not finite.
    """
    x = source.detach() if isinstance(source, Tensor) else _converted(source)
    if x.dtype.is_complex or not x.dtype.is_floating_point:
        raise UserError(
            f"samples of {x.dtype}: give floats of full scale 1.0, int16 divided by 32768 say"
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
        raise UserError(f"samples given as {kind}: no array of numbers ({error})") from None


def require_finite(samples: Tensor) -> None:
    """UserError where a sample is no finite number."""
    if not samples.isfinite().all():
        raise UserError("the samples are not all finite numbers; repair them first")
