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
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The solution of ``M x = b`` in the range of ``M``: ``[batch, *event]``, started at 0.

    Stops at a residual of ``tolerance * ||b||``, by default ten rounding errors of the dtype (the
    recursive residual goes on shrinking below that, the true one does not). An item that has
    converged is frozen, so its result does not depend on the rest of the batch. ``precondition``:
    a symmetric positive definite approximation of ``M^-1``.
    """
    if tolerance is None:
        tolerance = 10 * torch.finfo(b.dtype).eps
    x, r = torch.zeros_like(b), b.clone()
    z = r if precondition is None else precondition(r)
    p, rz = z.clone(), inner(r, z)
    rr = inner(r, r)
    stop = tolerance**2 * rr
    for _ in range(max_iterations):
        active = rr > stop
        if not bool(active.any()):
            break
        m_p = matvec(p)
        p_m_p = inner(p, m_p)
        active = active & (p_m_p > 0)
        step = torch.where(active, rz / p_m_p, 0.0)
        x = x + per_item(step, x) * p
        r = r - per_item(step, r) * m_p
        z = r if precondition is None else precondition(r)
        # A frozen item carries rr = 0 from here on, which keeps it inactive.
        rr = torch.where(active, inner(r, r), torch.zeros_like(rr))
        rz_new = rr if precondition is None else torch.where(active, inner(r, z), 0.0)
        p = torch.where(per_item(active, p) > 0, z + per_item(rz_new / rz, r) * p, 0.0)
        rz = rz_new
    return x
