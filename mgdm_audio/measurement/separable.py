"""Operators with one small matrix per axis, whose SVD follows from those of the matrices."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mgdm_audio.measurement.operator import SpectralOperator
from mgdm_audio.tensors import decompose

Matrices = Mapping[int, Tensor]
"""Matrices ``[m, n]`` by the axis of an event that they act on, counted from the last, -1."""


class Separable(SpectralOperator):
    """Multiplies several axes by a matrix each, a Kronecker product ``A = A_1 (x) A_2 (x) ...``.

    ``matrices``: axis -> ``[m, n]``, the axes counted from the end of an event (-1 is the last);
    the other axes are unchanged. Singular values of a matrix below ``cutoff`` are set to 0, in
    ``A`` itself too, and those at the level of rounding always. The coordinates have the layout of
    an event. Raises ``ValueError`` without a matrix and for an axis counted from the front.
    """

    def __init__(self, matrices: Matrices, *, cutoff: float = 0.0) -> None:
        if not matrices or any(axis >= 0 for axis in matrices):
            raise ValueError(f"axes {sorted(matrices)}: give some, counted from the end, as -1")
        self._a = {axis: matrix.to(torch.float64) for axis, matrix in matrices.items()}
        self._u, self._v_t = {}, {}
        self._s = torch.ones((), dtype=torch.float64)
        for axis, matrix in self._a.items():
            u, s, v_t = decompose(matrix, cutoff)
            self._u[axis], self._v_t[axis] = u, v_t
            self._s = self._s * s.reshape(-1, *[1] * (-axis - 1))
            if cutoff:
                self._a[axis] = (u * s) @ v_t

    def __call__(self, x: Tensor) -> Tensor:
        return along(self._a, x)

    def adjoint(self, y: Tensor) -> Tensor:
        return along(_transposed(self._a), y)

    @property
    def singular_values(self) -> Tensor:
        return self._s

    def V(self, z: Tensor) -> Tensor:
        return along(_transposed(self._v_t), z)

    def V_T(self, x: Tensor) -> Tensor:
        return along(self._v_t, x)

    def U(self, z: Tensor) -> Tensor:
        return along(self._u, z)

    def U_T(self, y: Tensor) -> Tensor:
        return along(_transposed(self._u), y)


def along(matrices: Matrices, x: Tensor) -> Tensor:
    """Multiplies ``x: [batch, *event]`` along every axis that has a matrix."""
    for axis, matrix in matrices.items():
        matrix = matrix.to(x.dtype).to(x.device)
        x = (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return x


def _transposed(matrices: Matrices) -> Matrices:
    return {axis: matrix.T for axis, matrix in matrices.items()}
