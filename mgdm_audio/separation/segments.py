"""Segments of a mixture: its level, where they start, what each decides, and their joins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.ranges import Checked, Rule
from mgdm_audio.separation.runner import StemRunner
from mgdm_audio.separation.speeds import Speeds, speeds_of


def starts(time: int, segment: int, overlap: int) -> list[int]:
    """First sample of each segment; the last one reaches ``time`` or beyond. At least one.

    Raises ValueError unless 0 <= overlap <= segment / 2: at most two segments share a sample.
    """
    if segment < 1 or not 0 <= 2 * overlap <= segment:
        raise ValueError(f"overlap {overlap} must be between 0 and half of segment {segment}")
    hop = segment - overlap
    return [i * hop for i in range(max(1, math.ceil((time - overlap) / hop)))]


def cut(x: Tensor, segment: int, overlap: int) -> Tensor:
    """[..., time] -> [count, ..., segment], the last one filled with zeros."""
    time = x.shape[-1]
    first = starts(time, segment, overlap)
    padded = torch.nn.functional.pad(x, (0, first[-1] + segment - time))
    return torch.stack([padded[..., s : s + segment] for s in first])


def fade_in(overlap: int, like: Tensor) -> Tensor:
    """sin^2: with its mirror image it sums to one, which is the weight of the segment before."""
    i = torch.arange(overlap, dtype=torch.float64, device=like.device)
    return torch.sin(math.pi / 2 * (i + 0.5) / max(1, overlap)).square().to(like.dtype)


def stitched(segments: Iterable[Tensor], time: int, overlap: int) -> Iterator[Tensor]:
    """Consecutive segments [..., segment] joined to [..., time], the inverse of ``cut``.

    They are taken one at a time, and each piece is given as soon as no later segment changes it.
    Raises ValueError where there are too few or too many.

    Where two overlap the result is before + w (after - before): the weights 1 - w and w sum to one
    by construction, and where the two agree their difference is 0, so that an identity separator
    returns its input exactly.
    """
    held: Tensor | None = None  # the samples at the end that the next segment overlaps
    end = 0
    for x in segments:
        if held is None:
            window = fade_in(overlap, x)
        elif end >= time:
            raise ValueError(f"more segments than {time} samples with overlap {overlap} need")
        else:
            seam = held + window * (x[..., :overlap] - held)
            x = torch.cat([seam, x[..., overlap:]], -1)
            end -= overlap
        x = x[..., : time - end]
        end += x.shape[-1]
        ready = x.shape[-1] - (overlap if end < time else 0)
        held = x[..., ready:].clone()  # else it would keep the whole segment alive
        yield x[..., :ready]
    if held is None or end < time:
        raise ValueError(f"the segments end at sample {end} of {time}")


def active_level(samples: Tensor, sample_rate: int) -> Tensor:
    """Rms over the channels and the seconds within 40 dB of the loudest; [] , 0 for silence.

    samples: [channel, time]. Pauses would lower a plain rms and so raise the music around them.
    """
    return level_of(powers(samples, sample_rate))


def powers(samples: Tensor, sample_rate: int) -> Tensor:
    """Mean squares of [channel, time] in each second that it begins: [seconds]."""
    return torch.stack([part.square().mean() for part in samples.split(sample_rate, -1)])


def level_of(power: Tensor) -> Tensor:
    """``active_level`` from ``powers``."""
    return power[power >= 1e-4 * power.max()].mean().sqrt()


Join = Literal["crossfade", "condition"]


@dataclass(frozen=True)
class Meeting:
    """Of ``count`` segments, each sharing ``overlap`` samples with the next, joined by ``join``."""

    count: int
    overlap: int
    join: Join

    @property
    def held(self) -> int:
        """Samples at each join on which a segment is conditioned: its neighbour decided them."""
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


JOINS: tuple[Join, ...] = get_args(Join)
Level = Literal["rms", "none"]  # see ``Segmentation.level``


def _choice(words: Sequence[str]) -> Rule:
    return Rule(words.__contains__, "{name} {value!r}: choose one of " + ", ".join(words))


@dataclass(frozen=True)
class Segmentation(Checked):
    """Of a mixture, for one prior. Lengths in samples at the prior's rate."""

    segment: int
    overlap: int  # of neighbouring segments
    multiple: int  # of which every segment is one, see ``StemRunner.multiple``
    mixture_rms: float  # the level of the mixtures that the prior was trained on, linear
    join: Annotated[Join, _choice(JOINS)] = "crossfade"  # see ``drawing``
    # "rms" brings a mixture to the prior's level, "none" leaves it as it is.
    level: Annotated[Level, _choice(get_args(Level))] = "rms"
    speeds: Speeds = (0.0,)  # semitones; the draws take turns, see ``speeds``

    @classmethod
    def of(
        cls,
        runner: StemRunner,
        segment: float,
        overlap: float,
        join: Join,
        level: Level,
        speeds: Sequence[float] | None,
    ) -> Segmentation:
        """``segment``, ``overlap``: seconds. ``speeds``: by default the preset's.

        With ``join="condition"`` there is one speed: a sample decided at one lies between samples
        at another. Raises UserError for settings that cannot be.
        """
        if not 0 <= overlap < segment / 2:
            raise UserError(f"overlap {overlap} s: choose at least 0 and under half of {segment} s")
        speeds = speeds_of(runner.preset) if speeds is None else tuple(speeds)
        speeds = (0.0,) if join == "condition" else speeds
        loaded, multiple = runner.loaded, runner.multiple
        samples = max(1, round(segment * loaded.sample_rate) // multiple) * multiple
        held = round(overlap * loaded.sample_rate)
        return cls(samples, held, multiple, loaded.mixture_rms, join, level, speeds)

    def cuts(self, time_: int) -> tuple[int, int]:
        """Segment and overlap for a mixture of ``time_`` samples."""
        segment = min(self.segment, -(-time_ // self.multiple) * self.multiple)
        overlap = min(self.overlap, (segment - 1) // 2)
        return segment, overlap

    def level_gain(self, level: Tensor, unit: float = 1.0) -> Tensor:
        """What brings a mixture of this active level to the prior's; 1 for silence.

        Where mixtures are left as they are: ``unit``, by which this one was divided.
        """
        if self.level == "none":
            return torch.full_like(level, unit)
        return torch.where(level > 0, self.mixture_rms / level.clamp_min(1e-30), 1.0)
