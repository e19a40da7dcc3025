"""Events that an operator cannot tell apart because one is the other moved about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ShiftsAndTurn:
    """The moves that ``PhaseRetrieval`` does not see: shifts, a half turn, and both together.

    The modulus of a Fourier transform stays the same where an event is shifted around its padded
    frame, the ends of which meet, and where it is reversed along all its axes at once (a picture
    turned by 180 degrees). An event holds only what lies between the paddings. So its moves are
    exactly those circular shifts, by whole entries, of it and of its reverse that leave nothing
    but ``background`` in the padding: a digit on black moves until it meets an edge, a photograph
    that fills its frame only turns.

    All channels move alike. Each channel moved on its own is as invisible, and so is the sign of
    what is transformed; neither counts here, as the first takes colours apart and the second takes
    images out of their range.
    """

    padding: tuple[int, ...]  # entries at either end of each of the last axes
    background: float = 0.0  # the value of an event where what is transformed is 0

    def nearest(self, x: Tensor, reference: Tensor, count: int = 1) -> list[Tensor]:
        """Of the events that are ``reference`` moved, itself among them, the nearest to ``x``.

        ``x, reference: [*event]``. By the squared error over all moves, the nearest first, at most
        ``count``.
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
        # What loses nothing keeps its norm: the most alike is the nearest. Losses are numbers of
        # entries, but for a rounding of far less than 1.
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
    """``event`` at the beginning of its frame, all of the padding after it."""
    size = event.shape[-len(frame) :]
    ends = [n for own, full in zip(size[::-1], frame[::-1], strict=True) for n in (0, full - own)]
    return F.pad(event, ends, value=value)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """``sum_n a(n) b(n - shift)``, summed over the first axis, too, for every circular shift."""
    axes = tuple(range(1, a.ndim))
    product = torch.fft.rfftn(a, dim=axes) * torch.fft.rfftn(b, dim=axes).conj()
    return torch.fft.irfftn(product, a.shape[1:], axes).sum(0)
