"""Shifts and reversals of an event that do not change its observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ShiftsAndTurn:
    """The symmetries of ``PhaseRetrieval``: shifts, a half turn, and their compositions.

    The modulus of a Fourier transform is invariant to circular shifts of the padded event and to
    its reversal along all axes at once (for an image, a half turn). The shifts counted here are
    those by whole entries after which the padding still holds only ``background``: a digit on black
    can be shifted up to the edges, a photograph that fills its frame cannot.

    All channels are shifted together. The modulus is also invariant to shifts of single channels
    and to the sign of its input; these are left out, because the first separates the colours and
    the second leaves the range of images.
    """

    padding: tuple[int, ...]  # entries at either end of each of the last axes
    background: float = 0.0  # the value of an event where the transform's input is 0

    def nearest(self, x: Tensor, reference: Tensor, count: int = 1) -> list[Tensor]:
        """Returns the events equivalent to ``reference`` that are nearest to ``x``.

        ``x, reference: [*event]``. At most ``count`` are returned, in ascending order of their
        squared error over all symmetries, the identity included.
        """
        size = reference.shape[-len(self.padding) :]
        frame = [n + 2 * amount for n, amount in zip(size, self.padding, strict=True)]
        a, b = (
            event.double().cpu().reshape(-1, *size) - self.background for event in (x, reference)
        )
        axes = tuple(range(1, b.ndim))
        outside = 1 - _framed(torch.ones(1, *size, dtype=torch.float64), frame)
        alike, lost = [], []
        for event in (b, b.flip(axes)):
            alike.append(_correlation(_framed(a, frame), _framed(event, frame)))
            taken = (event != 0).any(0, keepdim=True).double()
            lost.append(_correlation(outside, _framed(taken, frame)))
        # Moves that lose no entry keep the norm, so the highest correlation is the least squared
        # error. ``lost`` counts entries, with rounding errors far below 1.
        likeness = torch.stack(alike).masked_fill(torch.stack(lost) > 0.5, -torch.inf)
        best = likeness.flatten().topk(min(count, int(likeness.isfinite().sum()))).indices
        moves = torch.stack(torch.unravel_index(best, likeness.shape), -1).tolist()
        return [self._moved(reference, bool(turn), shift, frame) for turn, *shift in moves]

    def _moved(self, event: Tensor, turn: bool, shift: list[int], frame: list[int]) -> Tensor:
        axes = tuple(range(-len(frame), 0))
        framed = _framed(event.flip(axes) if turn else event, frame, self.background)
        moved = framed.roll(shift, axes)
        for axis in axes:
            moved = moved.narrow(axis, 0, event.shape[axis])
        return moved


def _framed(event: Tensor, frame: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads ``event`` at its ends only to the size of the frame."""
    size = event.shape[-len(frame) :]
    ends = [n for own, full in zip(size[::-1], frame[::-1], strict=True) for n in (0, full - own)]
    return F.pad(event, ends, value=value)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Returns ``sum_n a(n) b(n - shift)`` for every circular shift, summed over the first axis."""
    axes = tuple(range(1, a.ndim))
    product = torch.fft.rfftn(a, dim=axes) * torch.fft.rfftn(b, dim=axes).conj()
    return torch.fft.irfftn(product, a.shape[1:], axes).sum(0)
