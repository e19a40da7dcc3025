"""Tensors: coefficients against states, and numbers made on the host sent to where a state is."""

from __future__ import annotations

import torch
from torch import Tensor


def per_item(value: float | Tensor, x: Tensor) -> Tensor:
    """A coefficient ``[]`` or ``[batch]`` made ready to multiply ``x: [batch, *event]``.

    Takes the dtype and device of ``x``; the dtype first, for devices that lack float64.
    """
    value = send(torch.as_tensor(value, dtype=x.dtype), x.device)
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim else value


def inner(a: Tensor, b: Tensor) -> Tensor:
    """``<a_i, b_i>`` for every batch item: ``[batch, *event]`` twice -> ``[batch]``."""
    return (a * b).flatten(1).sum(1)


NOT_AWAITED = {"cuda"}
"""Kinds of devices whose driver stages a host's memory before a copy returns, so that it may be
freed at once. Apple's does not, and hands over what is in that memory later (PyTorch issue 189690).
"""


def send(x: Tensor, device: torch.device | str) -> Tensor:
    """``x`` on ``device``; the host does not wait for what the device still has to compute.

    What is read on the device comes after the copy, on the same stream.
    """
    device = torch.device(device)
    return x.to(device, non_blocking=device.type in NOT_AWAITED)
