"""Solves and square roots of symmetric linear maps that are given as matrix-vector products.

Conjugate gradients and the Lanczos method (Golub and Van Loan, Matrix Computations, chapters 10 and
11), independently for every batch item.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mgdm_audio.tensors import inner, per_item


def conjugate_gradient(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    tolerance: float | None = None,
    max_iterations: int = 1000,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Returns the solution of ``M x = b`` in the range of ``M``, from 0: ``[batch, *event]``.

    Stops at a residual of ``tolerance * ||b||``, by default ten times the dtype's epsilon (below
    that the recursive residual shrinks further, but not the true one). An item that has converged
    is frozen, so its result does not depend on the rest of the batch. ``precondition``: a symmetric
    positive definite approximation of ``M^-1``.
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
        # A frozen item has rr = 0 from here on, which keeps it inactive.
        rr = torch.where(active, inner(r, r), torch.zeros_like(rr))
        rz_new = rr if precondition is None else torch.where(active, inner(r, z), 0.0)
        p = torch.where(per_item(active, p) > 0, z + per_item(rz_new / rz, r) * p, 0.0)
        rz = rz_new
    return x


def square_root(matvec: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """Returns ``M^(1/2) b`` for a symmetric ``M >= 0``, per batch item: ``[batch, *event]``.

    It takes ``steps`` products with M (Golub and Van Loan, Matrix Computations, section 10.1) and
    is exact once they reach the number of distinct eigenvalues, and accurate earlier if these
    decay. Eigenvalues that rounding or an asymmetric M makes negative count as 0.
    """
    tiny = torch.finfo(b.dtype).tiny
    length = inner(b, b).sqrt()
    basis = [b / per_item(length.clamp(min=tiny), b)]
    diagonal, off = [], []
    for j in range(steps):
        w = matvec(basis[j])
        diagonal.append(inner(w, basis[j]))
        for q in (*basis, *basis):  # twice is enough to keep the basis orthogonal
            w = w - per_item(inner(w, q), w) * q
        norm = inner(w, w).sqrt()
        # A norm at the level of rounding ends this item's recursion, by a zero vector.
        norm = norm.where(norm > 10 * torch.finfo(b.dtype).eps * diagonal[0].abs(), 0)
        off.append(norm)
        basis.append(w * per_item(torch.where(norm > 0, 1 / norm, 0), w))
    # On the CPU, since the matrix is small and Apple's GPU has neither float64 nor ``eigh``.
    tridiagonal = torch.diag_embed(torch.stack(diagonal, 1).cpu().double())
    if steps > 1:
        side = torch.diag_embed(torch.stack(off[:-1], 1).cpu().double(), 1)
        tridiagonal = tridiagonal + side + side.mT
    values, vectors = torch.linalg.eigh(tridiagonal)
    weights = (vectors * values.clamp(min=0).sqrt()[:, None] @ vectors.mT)[:, :, 0]
    weights = weights.to(b.dtype).to(b.device)
    root = torch.zeros_like(b)
    for j in range(steps):
        root += per_item(length * weights[:, j], b) * basis[j]
    return root
