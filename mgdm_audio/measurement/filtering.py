"""Operators that average neighbouring entries: blurs along any number of axes, and block means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mgdm_audio.measurement.operator import LinearOperator
from mgdm_audio.measurement.separable import Separable, along

Padding = Literal["zeros", "reflect", "circular"]
"""The values beyond an end: zeros, the mirror image about the last entry, or the other end's."""


class Blur(LinearOperator):
    """Blurs the last axes: ``y(p) = sum_q k(q) x(p + q - r)``, ``[batch, *, *size]`` to the same.

    ``kernel: [2 r + 1 for every axis of size]`` is correlated, as by torch's convolutions, and is
    the same for every entry of the other axes. It is applied by FFT. ``pinv`` and ``solve``
    iterate; for a product of one-dimensional kernels prefer ``SeparableBlur``. Raises
    ``ValueError`` for a kernel of another number of axes or of even length.
    """

    def __init__(
        self, kernel: Tensor, size: Sequence[int], *, padding: Padding = "reflect"
    ) -> None:
        if kernel.ndim != len(size) or any(taps % 2 == 0 for taps in kernel.shape):
            raise ValueError(
                f"a kernel {list(kernel.shape)} for size {list(size)}: give an odd length per axis"
            )
        self.size = tuple(size)
        self._axes = tuple(range(-len(self.size), 0))
        lengths = zip(self._axes, self.size, kernel.shape, strict=True)
        self._extensions = {a: extension(n, taps // 2, padding) for a, n, taps in lengths}
        self._extended = [n + taps - 1 for n, taps in zip(self.size, kernel.shape, strict=True)]
        self._spectrum = torch.fft.rfftn(kernel.to(torch.float64), self._extended)

    def __call__(self, x: Tensor) -> Tensor:
        x = along(self._extensions, x)
        y = self._filter(x, self._spectrum.conj())
        # The kernel spans 2 r further entries, so no entry that is kept has wrapped around.
        for axis, length in zip(self._axes, self.size, strict=True):
            y = y.narrow(axis, 0, length)
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        x = self._filter(y, self._spectrum)
        return along({axis: matrix.T for axis, matrix in self._extensions.items()}, x)

    def _filter(self, x: Tensor, spectrum: Tensor) -> Tensor:
        product = torch.fft.rfftn(x, self._extended, self._axes)
        product = product * spectrum.to(product.dtype).to(x.device)
        return torch.fft.irfftn(product, self._extended, self._axes)


class SpatiallyVaryingBlur(LinearOperator):
    """Blends several blurs with a weight per output entry: ``y = sum_b w_b (k_b * x)``.

    ``kernels: [B, *taps]`` are as in ``Blur``; ``weights: [B, *size]``. A constant is unchanged
    where weights and kernels each sum to 1. (Denis et al., "Fast approximations of shift-variant
    blur", IJCV 2015, with weights on the output.) Raises ``ValueError`` unless there are as many
    weights as kernels.
    """

    def __init__(self, kernels: Tensor, weights: Tensor, *, padding: Padding = "reflect") -> None:
        if len(kernels) != len(weights):
            raise ValueError(f"{len(kernels)} kernels and {len(weights)} weights: give as many")
        size = weights.shape[1:]
        self.parts = [
            (Blur(kernel, size, padding=padding), weight)
            for kernel, weight in zip(kernels, weights, strict=True)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        first, *others = [weight.to(x) * blur(x) for blur, weight in self.parts]
        return sum(others, start=first)

    def adjoint(self, y: Tensor) -> Tensor:
        first, *others = [blur.adjoint(weight.to(y) * y) for blur, weight in self.parts]
        return sum(others, start=first)


class SeparableBlur(Separable):
    """Blurs every axis of ``size`` with the same kernel ``[2 r + 1]``; its SVD is known.

    One-dimensional singular values below ``cutoff`` are set to 0. Without a cutoff those of a
    smooth kernel can be as small as rounding errors, which ``pinv`` amplifies: prefer
    ``damped_pinv``. Raises ``ValueError`` for a kernel of several axes or of even length.
    """

    def __init__(
        self,
        kernel: Tensor,
        size: Sequence[int],
        *,
        padding: Padding = "reflect",
        cutoff: float = 0.0,
    ) -> None:
        if kernel.ndim != 1 or len(kernel) % 2 == 0:
            raise ValueError(f"a kernel {list(kernel.shape)}: give one axis of odd length")
        taps = kernel.to(torch.float64)
        matrices = {
            axis: extension(n, len(taps) // 2, padding).unfold(0, len(taps), 1) @ taps
            for axis, n in zip(range(-len(size), 0), size, strict=True)
        }
        super().__init__(matrices, cutoff=cutoff)


class Downsampling(Separable):
    """Takes the mean of every block of ``factor`` entries along each axis of ``size``.

    ``[batch, *, *size] -> [batch, *, *(size / factor)]``; the singular values are 0 and, for ``d``
    axes, ``factor ** (-d / 2)``. Raises ``ValueError`` for a size that ``factor`` does not divide.
    """

    def __init__(self, factor: int, size: Sequence[int]) -> None:
        if factor < 1 or any(length % factor for length in size):
            raise ValueError(f"size {list(size)}: give multiples of the factor {factor}")
        block = torch.full((1, factor), 1 / factor, dtype=torch.float64)
        matrices = {
            axis: torch.kron(torch.eye(n // factor, dtype=torch.float64), block)
            for axis, n in zip(range(-len(size), 0), size, strict=True)
        }
        super().__init__(matrices)


def extension(length: int, radius: int, padding: Padding) -> Tensor:
    """Returns the matrix ``[length + 2 radius, length]`` that pads both ends by ``radius``."""
    inside = torch.arange(-radius, length + radius)
    if padding == "reflect":
        period = max(2 * (length - 1), 1)  # a single entry is mirrored onto itself
        inside = torch.minimum(inside % period, -inside % period)
    elif padding == "circular":
        inside = inside % length
    elif padding != "zeros":
        raise ValueError(f"padding {padding!r}: give zeros, reflect or circular")
    return (inside[:, None] == torch.arange(length)).to(torch.float64)
