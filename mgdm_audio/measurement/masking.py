"""Operators that observe a subset of the entries: masks (inpainting) and known sources."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgdm_audio.measurement.mixture import SourceMatrix
from mgdm_audio.measurement.operator import SpectralOperator


class Mask(SpectralOperator):
    """Sets entries that are not observed to 0: ``y = mask * x``, ``[batch, *event]`` to the same.

    ``mask``: boolean, True where observed, broadcastable over a batch of events. ``A`` is its own
    adjoint and pseudo-inverse, and the coordinates are the entries themselves.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask.to(torch.bool)

    @property
    def singular_values(self) -> Tensor:
        return self.mask.to(torch.float64)

    def V(self, z: Tensor) -> Tensor:
        return z

    def V_T(self, x: Tensor) -> Tensor:
        return x

    def U(self, z: Tensor) -> Tensor:
        return self.mask.to(z.device) * z

    def U_T(self, y: Tensor) -> Tensor:
        return self.mask.to(y.device) * y


class KnownSources(SourceMatrix):
    """Selects M of K sources: ``y_m = x_{indices[m]}``, ``[batch, K, time] -> [batch, M, time]``.

    Stacked with ``MixtureSum`` it observes a mixture and some of its stems. Raises ``ValueError``
    for an index that is repeated or outside ``0..K-1``.
    """

    def __init__(self, indices: Sequence[int], num_sources: int) -> None:
        self.indices = tuple(indices)
        self.num_sources = num_sources
        valid = set(range(num_sources))
        if not self.indices or len(valid & set(self.indices)) != len(self.indices):
            raise ValueError(f"known sources {self.indices}: distinct indices in 0..{max(valid)}")
        super().__init__(torch.eye(num_sources, dtype=torch.float64)[list(self.indices)])
