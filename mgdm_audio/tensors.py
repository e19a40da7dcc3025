"""Broadcasting of coefficients over batches, inner products, and copies to a device."""

from __future__ import annotations

import torch
from torch import Tensor


def per_item(value: float | Tensor, x: Tensor) -> Tensor:
    """Reshapes a coefficient ``[]`` or ``[batch]`` so that it multiplies ``x: [batch, *event]``.

    It gets the dtype and device of ``x``; the dtype first, for devices that lack float64.
    """
    value = send(torch.as_tensor(value, dtype=x.dtype), x.device)
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim else value


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Returns ``<a_i, b_i>`` for every batch item: ``[batch, *event]`` twice -> ``[batch]``."""
    return (a * b).flatten(1).sum(1)


NOT_AWAITED = {"cuda"}
"""Types of devices whose driver stages host memory before a copy returns, so that it may be freed
at once. Apple's driver reads the memory later (PyTorch issue 189690)."""


def send(x: Tensor, device: torch.device | str) -> Tensor:
    """Copies ``x`` to ``device`` without waiting for the device's queue.

    Later operations on the device follow the copy on the same stream.
    """
    device = torch.device(device)
    return x.to(device, non_blocking=device.type in NOT_AWAITED)
