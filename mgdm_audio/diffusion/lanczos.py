"""Square roots of operators known only by their products, by the Lanczos method."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mgdm_audio.broadcast import inner, per_item


def square_root(matvec: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """``M^(1/2) b`` for a symmetric ``M >= 0``, every batch item on its own: ``[batch, *event]``.

    ``steps`` products with M (Golub and Van Loan, Matrix Computations, section 10.1): exact once
    they reach the number of distinct eigenvalues, and close long before when those decay. What
    rounding or an asymmetric M makes negative counts as 0.
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
        # Below rounding the space is exhausted: a zero vector ends this item's recursion.
        norm = norm.where(norm > 10 * torch.finfo(b.dtype).eps * diagonal[0].abs(), 0)
        off.append(norm)
        basis.append(w * per_item(torch.where(norm > 0, 1 / norm, 0), w))
    # On the CPU: the matrix is small, and Apple's GPU has neither float64 nor this decomposition.
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
