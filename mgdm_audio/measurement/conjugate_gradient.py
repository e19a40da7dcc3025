"""Conjugate gradients for symmetric positive semi-definite maps, every batch item on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mgdm_audio.broadcast import inner, per_item


def conjugate_gradient(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Tensor:
    """The solution of ``M x = b`` in the range of ``M``: ``[batch, *event]``, started at 0.

    Stops at a residual of ``tolerance * ||b||``, by default ten rounding errors of the dtype (the
    recursive residual goes on shrinking below that, the true one does not). An item that has
    converged is frozen, so its result does not depend on the rest of the batch.
    """
    if tolerance is None:
        tolerance = 10 * torch.finfo(b.dtype).eps
    x, r, p = torch.zeros_like(b), b.clone(), b.clone()
    rr = inner(r, r)
    stop = tolerance**2 * rr
    for _ in range(max_iterations):
        active = rr > stop
        if not bool(active.any()):
            break
        m_p = matvec(p)
        p_m_p = inner(p, m_p)
        active = active & (p_m_p > 0)
        step = torch.where(active, rr / p_m_p, 0.0)
        x = x + per_item(step, x) * p
        r = r - per_item(step, r) * m_p
        rr_new = torch.where(active, inner(r, r), torch.zeros_like(rr))
        # A frozen item carries rr = 0 from here on, which keeps it inactive.
        p = torch.where(per_item(active, p) > 0, r + per_item(rr_new / rr, r) * p, 0.0)
        rr = rr_new
    return x
