"""Differentiable operators that are not linear: phase retrieval, clipping, any function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mgdm_audio.measurement.operator import Operator, compose
from mgdm_audio.measurement.symmetries import ShiftsAndTurn


class PhaseRetrieval(Operator):
    """``y = |F P x|``: the modulus of the Fourier transform of ``x``, its phase lost.

    ``P`` puts ``padding`` zeros at either end of each of the last ``len(padding)`` axes; ``F`` is
    the orthonormal FFT over them, frequency 0 in the middle (at ``n // 2``).
    ``[batch, *, *size] -> [batch, *, *(size + 2 padding)]``, both real.
    """

    def __init__(self, padding: Sequence[int]) -> None:
        self.padding = tuple(padding)

    def __call__(self, x: Tensor) -> Tensor:
        axes = tuple(range(-len(self.padding), 0))
        ends = [amount for amount in reversed(self.padding) for _ in range(2)]
        spectrum = torch.fft.fftn(torch.nn.functional.pad(x, ends), dim=axes, norm="ortho")
        return torch.fft.fftshift(spectrum, axes).abs()

    @property
    def symmetries(self) -> ShiftsAndTurn:
        return ShiftsAndTurn(self.padding)


class Clip(Operator):
    """``y = min(max(x, low), high)``, entry by entry; the gradient is 0 where it clips."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


class Affine(Operator):
    """``y = gain x + offset``, entry by entry: from one range of values to another."""

    def __init__(self, gain: float, offset: float) -> None:
        self.gain, self.offset = gain, offset

    def __call__(self, x: Tensor) -> Tensor:
        return self.gain * x + self.offset

    def pulled_back(self, symmetries: ShiftsAndTurn) -> ShiftsAndTurn | None:
        if self.gain == 0:
            return None
        return replace(symmetries, background=(symmetries.background - self.offset) / self.gain)


class Idempotent(Operator):
    """``y = operator(x)``, an event which the operator leaves as it is: ``A(A(x)) = A(x)``.

    The caller says so by this class; it is not checked. JPEG is one, but for its rounding.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator = operator

    def __call__(self, x: Tensor) -> Tensor:
        return self.operator(x)

    @property
    def symmetries(self) -> ShiftsAndTurn | None:
        return self.operator.symmetries


class Function(Operator):
    """``y = function(x)``, ``[batch, *event] -> [batch, *observation]``: a network, say.

    The function must be differentiable and treat the items of a batch one by one.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)


def on_unit_range(operator: Operator) -> Operator:
    """An operator on events and observations in [0, 1], made one on both in [-1, 1]."""
    return compose(Affine(2, -1), compose(operator, Affine(0.5, 0.5)))
