"""The draws of one segment: their running mean, those that are kept, and their ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mgdm_audio.separation.segments import Overlaps
from mgdm_audio.separation.stereo import MID, placed


@dataclass
class Item:
    """One draw of one channel of a segment."""

    segment: int
    channel: int
    draw: int


Drawn = tuple[Tensor, Tensor | None]
"""A draw [sources, any] and its ``Step.deviation`` of the same shape, if any."""


@dataclass
class SegmentDraws:
    """The results of one segment: the mean over draws, kept draws, and the ends of all draws."""

    mixture: Tensor  # [batch, 1, segment]
    rows: Tensor  # [1 + kept, batch, sources, segment]
    head: Tensor  # [draws, batch, sources, held], on which the previous segment is conditioned
    tail: Tensor  # [draws, batch, sources, held], on which the next segment is conditioned
    own_speed: Tensor  # [batch, sources, segment], a draw at the track's own speed
    drawn: list[int]  # the number of draws so far, by channel
    loud: Sequence[int]  # the channels that are drawn; the stems of all others are equal

    @classmethod
    def of(
        cls, mixture: Tensor, sources: int, draws: int, keep: bool, overlaps: Overlaps, loud: Tensor
    ) -> SegmentDraws:
        """``mixture``: [batch, 1, segment]; ``loud``: [batch], whether a channel is drawn."""
        equal = (mixture / sources).expand(-1, sources, -1)
        rows = equal.expand(1 + draws * keep, -1, -1, -1).clone()
        ends = equal.expand(draws, -1, -1, -1)
        head, tail, own_speed = overlaps.head(ends), overlaps.tail(ends), rows[0].clone()
        rows[0, loud] = 0
        channels = loud.nonzero().flatten().tolist()
        return cls(
            mixture, rows, head.clone(), tail.clone(), own_speed, [0] * len(mixture), channels
        )

    @property
    def apart(self) -> list[int]:
        """The channels that are drawn, less their mean."""
        return [channel for channel in self.loud if channel != MID]

    def add(self, channel: int, x: Tensor) -> tuple[Tensor, int]:
        """Updates the mean of a channel by a draw [sources, segment].

        Returns the draw less the mean before, and how many draws that was of. The running mean is
        Welford's, which avoids a difference of large numbers.
        """
        mean, before = self.rows[0, channel], self.drawn[channel]
        self.drawn[channel] += 1
        change = x - mean
        mean += change / (before + 1)
        return change, before

    def placed(self, sample_rate: int) -> Tensor:
        """The rows of two channels from those of both and of their mean, see ``stereo``."""
        left, right, mid = self.rows[0]
        if MID not in self.loud:
            return self.rows[:, :MID]
        return placed(mid, (left - right) / 2, self.mixture[:MID, 0], sample_rate)[None]
