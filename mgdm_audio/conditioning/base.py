"""The interface of the methods of Gaussian conditioning."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from mgdm_audio.tensors import per_item

Spread = float | Tensor | None
"""A factor >= 0 of C^2, [] or [batch]: see ``guidance.condition_state``."""


class Conditional(Protocol):
    """Conditions ``x_0 ~ N(mean, C)`` on ``y = A x_0 + sigma_y eps``, for one A, C and sigma_y.

    With a ``spread`` the covariance of A x_0 is ``A (C + spread C^2) A^T``.
    """

    def score(self, residual: Tensor) -> Tensor:
        """Returns ``A^T (A (C + spread C^2) A^T + sigma_y^2 I)^-1 residual``: ``[batch, *event]``.

        Without a spread and for ``residual = y - A mean: [batch, *observation]`` it is the gradient
        of log N(y; A mean, A C A^T + sigma_y^2 I) with respect to the mean.
        """
        ...

    def shift(self, residual: Tensor) -> Tensor:
        """Returns ``C score(residual): [batch, *event]``, without a spread E[x_0 | y] - mean."""
        ...


def widened(variance: Tensor, spread: Spread) -> Tensor:
    """Returns the diagonal of ``C + spread C^2`` for a C with the diagonal ``variance``."""
    return variance if spread is None else variance + per_item(spread, variance) * variance**2
