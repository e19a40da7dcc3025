"""Coefficients against states: the one place where an event's dimensions are counted."""

from __future__ import annotations

import torch
from torch import Tensor

from mgdm_audio.transfer import send


def per_item(value: float | Tensor, x: Tensor) -> Tensor:
    """A coefficient ``[]`` or ``[batch]`` made ready to multiply ``x: [batch, *event]``.

    Takes the dtype and device of ``x``; the dtype first, for devices that lack float64.
    """
    value = send(torch.as_tensor(value, dtype=x.dtype), x.device)
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim else value


def inner(a: Tensor, b: Tensor) -> Tensor:
    """``<a_i, b_i>`` for every batch item: ``[batch, *event]`` twice -> ``[batch]``."""
    return (a * b).flatten(1).sum(1)
