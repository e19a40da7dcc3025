"""Where neighbouring segments meet: which samples each decides, and which it tells the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mgdm_audio.audio.segments import fade_in

Join = Literal["crossfade", "condition"]


@dataclass(frozen=True)
class Meeting:
    """Of ``count`` segments, each sharing ``overlap`` samples with the next, joined by ``join``."""

    count: int
    overlap: int
    join: Join

    @property
    def held(self) -> int:
        """Samples that a segment is told at each join, of those that its neighbour decided."""
        return self.overlap // 2 if self.join == "condition" else 0

    def bounds(self, index: int, segment: int) -> tuple[int, int]:
        """Of the samples that a segment of so many decides, joined by conditioning."""
        margin = self.held if index % 2 else self.overlap - self.held
        return (margin if index else 0), segment - (margin if index + 1 < self.count else 0)

    def weight(self, index: int, like: Tensor) -> Tensor:
        """[segment], of a segment's samples in the track. Independent draws are blended: of the
        variance of each its square is left."""
        weight = like.new_ones(like.shape[-1])
        if self.join == "crossfade":
            fade = fade_in(self.overlap, like)
            if index > 0:
                weight[: self.overlap] *= fade
            if index + 1 < self.count:
                weight[len(weight) - self.overlap :] *= fade.flip(-1)
            return weight
        first, last = self.bounds(index, len(weight))
        weight[:first], weight[last:] = 0, 0
        return weight

    def head(self, x: Tensor) -> Tensor:
        """What the neighbour before is to meet: its own last ``held`` samples."""
        return x[..., self.overlap - self.held : self.overlap]

    def tail(self, x: Tensor) -> Tensor:
        """What the neighbour after is to meet: its own first ``held`` samples."""
        start = x.shape[-1] - self.overlap
        return x[..., start : start + self.held]

    def known(
        self, before: Tensor | None, after: Tensor | None, time: int
    ) -> tuple[Tensor, Tensor]:
        """What the neighbours decided, [sources, time], 0 elsewhere; and where, [1, time].

        ``before``: the tail of the segment before, ``after``: the head of that after. At least one.
        """
        ends = before if before is not None else after
        assert ends is not None
        known = ends.new_zeros(ends.shape[0], time)
        mask = torch.zeros(1, time, dtype=torch.bool, device=known.device)
        if before is not None:
            known[:, : self.held], mask[:, : self.held] = before, True
        if after is not None:
            known[:, time - self.held :], mask[:, time - self.held :] = after, True
        return known, mask
