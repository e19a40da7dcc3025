"""A stream whose rate or channels change on the way, as if it had gone on as it began."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mgdm_audio.audio.decoding.events import Block
from mgdm_audio.audio.resampling import half_width, resample_span
from mgdm_audio.audio.speakers import matrix

_BLOCK = 1 << 16  # samples made at a time


class Resampled:
    """Blocks [channel, any] of one rate -> blocks of another, in memory that does not grow."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        common = math.gcd(from_rate, to_rate)
        self._old, self._new = from_rate // common, to_rate // common
        self._rates = from_rate, to_rate
        self._held: Tensor | None = None  # [channel, any], from sample ``_begin`` on
        self._begin = self._time = self._done = 0  # samples: dropped, taken in, given out

    def add(self, block: Tensor) -> Iterator[Tensor]:
        """What can be made once ``block`` is known."""
        self._held = block if self._held is None else torch.cat([self._held, block], -1)
        self._time += block.shape[-1]
        # The last of them needs its filter's width of samples behind it.
        known = self._time - half_width(self._old, self._new) - 2
        yield from self._made(max(self._done, known * self._new // self._old))

    def end(self) -> Iterator[Tensor]:
        """The rest: ceil(time * to_rate / from_rate) samples in all."""
        if self._held is not None:
            yield from self._made(-(-self._time * self._new // self._old))

    def _made(self, stop: int) -> Iterator[Tensor]:
        def read(start: int, end: int) -> Tensor:
            assert self._held is not None
            return self._held[:, start - self._begin : end - self._begin]

        while self._done < stop:
            end = min(stop, self._done + _BLOCK)
            yield resample_span(read, self._time, *self._rates, self._done, end)
            self._done = end
        # ``resample_span`` begins two filters' widths and a common period earlier at most.
        keep = self._done * self._old // self._new
        keep -= 2 * (half_width(self._old, self._new) + self._old + 2)
        if self._held is not None and keep - self._begin > _BLOCK:
            self._held = self._held[:, keep - self._begin :].clone()
            self._begin = keep


class Follower:
    """Blocks of any rate and channels -> blocks of those of the first."""

    def __init__(self) -> None:
        self.first: Block | None = None
        self.changed = False  # whether anybody was told of a change
        self._now: Block | None = None
        self._resampled: Resampled | None = None

    def changes(self, block: Block) -> str:
        """What is new about ``block``, in words; empty where it goes on as the one before."""
        now = self._now
        if now is None or _form(now) == _form(block):
            return ""
        return f"{_words(now)} become {_words(block)}"

    def add(self, block: Block) -> Iterator[Block]:
        """``block``, converted; and before it, what was left of another form."""
        if self.first is None:
            self.first = self._now = block
        assert self._now is not None
        if _form(self._now) != _form(block):
            yield from self.end()
            if block.rate != self.first.rate:
                self._resampled = Resampled(block.rate, self.first.rate)
        self._now = block
        samples = block.samples
        if _form(block)[1:] != _form(self.first)[1:]:
            mix = matrix(block.mask, len(samples), self.first.mask, len(self.first.samples))
            samples = mix @ samples
        if self._resampled is None:
            yield self._like_first(samples)
        else:
            for part in self._resampled.add(torch.from_numpy(samples)):
                yield self._like_first(part.numpy())

    def end(self) -> Iterator[Block]:
        """What the conversion still holds."""
        if self._resampled is not None:
            for part in self._resampled.end():
                yield self._like_first(part.numpy())
            self._resampled = None

    def _like_first(self, samples: np.ndarray) -> Block:
        assert self.first is not None
        return self.first._replace(samples=np.ascontiguousarray(samples, np.float32))


def _form(block: Block) -> tuple[int, int, int]:
    return block.rate, len(block.samples), block.mask


def _words(block: Block) -> str:
    channels = len(block.samples)
    return f"{channels} channel{'s' * (channels != 1)} at {block.rate} Hz"
