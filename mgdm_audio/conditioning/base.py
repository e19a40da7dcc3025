"""The interface of the methods of conditioning, and the arithmetic that they share."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from mgdm_audio.tensors import per_item

Spread = float | Tensor | None
"""A factor >= 0, [] or [batch], of C^2: see ``guidance.condition_state``."""


class Conditional(Protocol):
    """``x_0 ~ N(mean, C)`` given ``y = A x_0 + sigma_y eps``, for one A, C and sigma_y.

    With a ``spread`` the variance of A x_0 is that of ``C + spread C^2``.
    """

    def score(self, residual: Tensor) -> Tensor:
        """``A^T (A (C + spread C^2) A^T + sigma_y^2 I)^-1 residual``: ``[batch, *event]``.

        Without a spread and for ``residual = y - A mean: [batch, *observation]`` it is the gradient
        of log N(y; A mean, A C A^T + sigma_y^2 I) in the mean.
        """
        ...

    def shift(self, residual: Tensor) -> Tensor:
        """``C score(residual)``: ``[batch, *event]``. Without a spread it is E[x_0 | y] - mean."""
        ...


def widened(variance: Tensor, spread: Spread) -> Tensor:
    """The diagonal of ``C + spread C^2``, that of C being ``variance``."""
    return variance if spread is None else variance + per_item(spread, variance) * variance**2
