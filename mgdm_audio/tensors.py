"""Tensors: coefficients against states, copies to a device, and decompositions of small ones."""

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


def decompose(matrix: Tensor, cutoff: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Returns ``U: [m, n]``, ``S: [n]`` and ``V^T: [n, n]`` of ``matrix: [m, n]``.

    Singular values below ``cutoff`` or 1e-12 of the largest count as 0. ``U`` and ``S`` are 0 in
    the columns of the null space.
    """
    u, s, v_t = torch.linalg.svd(matrix, full_matrices=True)
    rank = int((s > max(cutoff, 1e-12 * float(s.max()))).sum())
    padded_u, padded_s = torch.zeros_like(matrix), matrix.new_zeros(matrix.shape[1])
    padded_u[:, :rank], padded_s[:rank] = u[:, :rank], s[:rank]
    return padded_u, padded_s, v_t
