"""Differentiable nonlinear operators: phase retrieval, clipping, affine maps, any function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mgdm_audio.measurement.operator import Operator, compose
from mgdm_audio.measurement.symmetries import ShiftsAndTurn


class PhaseRetrieval(Operator):
    """Observes the modulus of the Fourier transform of ``x`` without its phase: ``y = |F P x|``.

    ``P`` pads each of the last ``len(padding)`` axes by ``padding`` zeros at both ends; ``F`` is
    the orthonormal FFT over them, with frequency 0 in the middle (at ``n // 2``).
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
    """Clips every entry: ``y = min(max(x, low), high)``; the gradient is 0 where it clips."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


class Affine(Operator):
    """Maps every entry to ``y = gain x + offset``, from one range of values to another."""

    def __init__(self, gain: float, offset: float) -> None:
        self.gain, self.offset = gain, offset

    def __call__(self, x: Tensor) -> Tensor:
        return self.gain * x + self.offset

    def pulled_back(self, symmetries: ShiftsAndTurn) -> ShiftsAndTurn | None:
        if self.gain == 0:
            return None
        return replace(symmetries, background=(symmetries.background - self.offset) / self.gain)


class Idempotent(Operator):
    """Marks an ``operator`` as idempotent: ``A(A(x)) = A(x)``, so that y is an event.

    This is not checked. JPEG is idempotent up to rounding.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator = operator

    def __call__(self, x: Tensor) -> Tensor:
        return self.operator(x)

    @property
    def symmetries(self) -> ShiftsAndTurn | None:
        return self.operator.symmetries


class Function(Operator):
    """Makes an operator of any function ``[batch, *event] -> [batch, *observation]``.

    The function (a network, for example) must be differentiable and act item by item.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)


def on_unit_range(operator: Operator) -> Operator:
    """Converts an operator on events and observations in [0, 1] to one on [-1, 1]."""
    return compose(Affine(2, -1), compose(operator, Affine(0.5, 0.5)))
