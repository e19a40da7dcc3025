"""An operator that concatenates several observations of one event."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgdm_audio.measurement.mixture import SourceMatrix
from mgdm_audio.measurement.operator import LinearOperator


class Stacked(LinearOperator):
    """Concatenates observations along axis 1: ``y = (A_1 x, A_2 x, ...)``.

    ``sizes``: the length of axis 1 of every observation, optional where all operators are
    ``SourceMatrix``. ``Stacked([MixtureSum(4), KnownSources([1], 4)])`` observes
    ``[batch, 2, time]``: the mixture, then source 1. Raises ``ValueError`` where sizes are missing.
    """

    def __init__(
        self, operators: Sequence[LinearOperator], sizes: Sequence[int] | None = None
    ) -> None:
        self.operators = tuple(operators)
        matrices = [op.matrix for op in self.operators if isinstance(op, SourceMatrix)]
        # Operators that all act on the source axis are one operator of that kind, with an SVD.
        joint = len(matrices) == len(self.operators)
        self._joint = SourceMatrix(torch.cat(matrices)) if joint else None
        if sizes is None and not joint:
            raise ValueError("give the sizes of axis 1 of the observations that are stacked")
        self.sizes = list(sizes) if sizes is not None else [len(m) for m in matrices]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([operator(x) for operator in self.operators], dim=1)

    def adjoint(self, y: Tensor) -> Tensor:
        parts = zip(self.operators, torch.split(y, self.sizes, dim=1), strict=True)
        first, *others = [operator.adjoint(part) for operator, part in parts]
        return sum(others, start=first)

    def pinv(self, y: Tensor) -> Tensor:
        return self._joint.pinv(y) if self._joint else super().pinv(y)

    def damped_pinv(self, y: Tensor, rho: float | Tensor) -> Tensor:
        joint = self._joint
        return joint.damped_pinv(y, rho) if joint else super().damped_pinv(y, rho)

    def solve(self, b: Tensor, rho: float | Tensor) -> Tensor:
        return self._joint.solve(b, rho) if self._joint else super().solve(b, rho)
