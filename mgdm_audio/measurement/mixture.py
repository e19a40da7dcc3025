"""Operators that mix the sources sample by sample; the sum of the stems is one of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgdm_audio.measurement.operator import SpectralOperator
from mgdm_audio.tensors import decompose, per_item, send


class SourceMatrix(SpectralOperator):
    """Mixes K sources by ``matrix: [M, K]``: ``[batch, K, time] -> [batch, M, time]``.

    ``y_m(t) = sum_k M_mk x_k(t)``. The SVD of the matrix is that of the operator: its coordinates
    ``z: [batch, K, time]`` are virtual sources, of which the first, as many as its rank, are
    observed.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix.to(torch.float64)
        self._u, s, self._v_t = decompose(self.matrix)
        self._s = s[:, None]

    def __call__(self, x: Tensor) -> Tensor:
        return _mix(self.matrix, x)

    def adjoint(self, y: Tensor) -> Tensor:
        return _mix(self.matrix.T, y)

    @property
    def singular_values(self) -> Tensor:
        """The singular values of the matrix, descending: ``[K, 1]``."""
        return self._s

    def V(self, z: Tensor) -> Tensor:
        return _mix(self._v_t.T, z)

    def V_T(self, x: Tensor) -> Tensor:
        return _mix(self._v_t, x)

    def U(self, z: Tensor) -> Tensor:
        return _mix(self._u, z)

    def U_T(self, y: Tensor) -> Tensor:
        return _mix(self._u.T, y)


class MixtureSum(SourceMatrix):
    """Sums K sources: ``y = sum_k w_k x_k``, ``[batch, K, time] -> [batch, 1, time]``.

    ``w_k = 1`` by default. ``A A^T = |w|^2 I``, so ``pinv`` and ``solve`` have closed forms. Raises
    ``ValueError`` unless there are ``num_sources`` weights, not all zero.
    """

    def __init__(self, num_sources: int, weights: Sequence[float] | None = None) -> None:
        self.num_sources = num_sources
        self.weights = tuple(weights) if weights is not None else (1.0,) * num_sources
        if len(self.weights) != num_sources or not any(self.weights):
            raise ValueError(f"{num_sources} sources want as many weights, not all 0: {weights}")
        self._norm2 = sum(w * w for w in self.weights)
        self._plain = all(w == 1 for w in self.weights)
        super().__init__(torch.tensor([self.weights], dtype=torch.float64))

    def __call__(self, x: Tensor) -> Tensor:
        # A sum is faster than a product with a row of ones, and every sampler's gradients use it.
        return x.sum(1, keepdim=True) if self._plain else super().__call__(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return y.expand(-1, self.num_sources, -1) if self._plain else super().adjoint(y)

    def pinv(self, y: Tensor) -> Tensor:
        return self.adjoint(y / self._norm2)

    def damped_pinv(self, y: Tensor, rho: float | Tensor) -> Tensor:
        return self.adjoint(y / (self._norm2 + per_item(rho, y)))

    def solve(self, b: Tensor, rho: float | Tensor) -> Tensor:
        rho = per_item(rho, b)
        parallel = self.pinv(self(b))
        return parallel / (rho + self._norm2) + (b - parallel) / rho

    def mixed_variance(self, variance: Tensor) -> Tensor:
        """Returns the variance of a mixture of independent sources, ``sum_k w_k^2 v_k``.

        ``variance: [batch, K or 1, *any]`` -> ``[batch, 1, *any]``. The variances may be those of
        any orthonormal transform of time, since A commutes with it.
        """
        return (self._weights(variance) ** 2 * variance).sum(1, keepdim=True)

    def wiener_gain(self, variance: Tensor, noise_variance: float | Tensor) -> Tensor:
        """Returns the gain ``C A^T (A C A^T + noise_variance)^-1`` for ``C = diag(variance)``.

        ``variance: [batch, K or 1, *any]`` -> ``[batch, K, *any]``, which multiplies a residual
        ``[batch, 1, *any]``; ``noise_variance`` broadcasts over the residual.
        """
        total = self.mixed_variance(variance) + noise_variance
        return self._weights(variance) * variance / total

    def _weights(self, variance: Tensor) -> Tensor:
        weights = send(torch.tensor(self.weights, dtype=variance.dtype), variance.device)
        return weights.reshape(-1, *[1] * (variance.ndim - 2))


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiplies ``[M, K]`` by ``[batch, K, time]`` along the sources: ``[batch, M, time]``."""
    return send(matrix.to(x.dtype), x.device) @ x
