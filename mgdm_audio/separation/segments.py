"""Segments of a mixture: their starts, their level, their draws, and how they are joined."""

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
from mgdm_audio.separation.stereo import MID, Stereo, placed


def starts(time: int, segment: int, overlap: int) -> list[int]:
    """Returns the first sample of each segment, at least one; the last segment covers the end.

    Raises ValueError unless 0 <= overlap <= segment / 2, so that at most two segments overlap.
    """
    if segment < 1 or not 0 <= 2 * overlap <= segment:
        raise ValueError(f"overlap {overlap} must be between 0 and half of segment {segment}")
    hop = segment - overlap
    return [i * hop for i in range(max(1, math.ceil((time - overlap) / hop)))]


def cut(x: Tensor, segment: int, overlap: int) -> Tensor:
    """Cuts [..., time] into [count, ..., segment]; the last one is padded with zeros."""
    time = x.shape[-1]
    first = starts(time, segment, overlap)
    padded = torch.nn.functional.pad(x, (0, first[-1] + segment - time))
    return torch.stack([padded[..., s : s + segment] for s in first])


def fade_in(overlap: int, like: Tensor) -> Tensor:
    """Returns a sin^2 fade; its mirror image, the previous segment's weight, adds up to one."""
    i = torch.arange(overlap, dtype=torch.float64, device=like.device)
    return torch.sin(math.pi / 2 * (i + 0.5) / max(1, overlap)).square().to(like.dtype)


def stitched(segments: Iterable[Tensor], time: int, overlap: int) -> Iterator[Tensor]:
    """Joins consecutive segments [..., segment] to [..., time] by cross-fades, inverting ``cut``.

    Segments are consumed one at a time, and a piece is yielded once no later segment changes it.
    Raises ValueError for too few or too many segments.

    In an overlap the result is before + w (after - before), which is exact where both are equal, so
    that an identity separator returns its input exactly.
    """
    held: Tensor | None = None  # the last samples, which the next segment overlaps
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
        held = x[..., ready:].clone()  # a view would keep the whole segment in memory
        yield x[..., :ready]
    if held is None or end < time:
        raise ValueError(f"the segments end at sample {end} of {time}")


def active_level(samples: Tensor, sample_rate: int) -> Tensor:
    """Returns the rms over channels and the seconds within 40 dB of the loudest: [], 0 if silent.

    samples: [channel, time]. Rests would lower the rms of all seconds, and so raise the gain.
    """
    return level_of(powers(samples, sample_rate))


def powers(samples: Tensor, sample_rate: int) -> Tensor:
    """Returns the mean square of [channel, time] in each second, the last cut short: [seconds]."""
    return torch.stack([part.square().mean() for part in samples.split(sample_rate, -1)])


def level_of(power: Tensor) -> Tensor:
    """Returns ``active_level`` from ``powers``."""
    return power[power >= 1e-4 * power.max()].mean().sqrt()


Join = Literal["crossfade", "condition"]


@dataclass(frozen=True)
class Overlaps:
    """The overlaps of ``count`` segments, each with ``overlap`` samples in common with the next."""

    count: int
    overlap: int
    join: Join

    @property
    def held(self) -> int:
        """The number of samples at each join on which a segment is conditioned."""
        return self.overlap // 2 if self.join == "condition" else 0

    def bounds(self, index: int, segment: int) -> tuple[int, int]:
        """Returns first and end of a segment's samples that are output with ``join="condition"``.

        ``segment``: the number of its samples.
        """
        margin = self.held if index % 2 else self.overlap - self.held
        return (margin if index else 0), segment - (margin if index + 1 < self.count else 0)

    def weight(self, index: int, like: Tensor) -> Tensor:
        """Returns the weights of a segment's samples in the track: [segment].

        A blend of independent draws scales the variance of each by the square of its weight.
        """
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
        """Returns the samples on which the previous segment is conditioned, its last ``held``."""
        return x[..., self.overlap - self.held : self.overlap]

    def tail(self, x: Tensor) -> Tensor:
        """Returns the samples on which the next segment is conditioned, its first ``held``."""
        start = x.shape[-1] - self.overlap
        return x[..., start : start + self.held]

    def known(
        self, before: Tensor | None, after: Tensor | None, time: int
    ) -> tuple[Tensor, Tensor]:
        """Returns the neighbours' known samples [sources, time], 0 elsewhere, and a mask [1, time].

        ``before``: the tail of the previous segment, ``after``: the head of the next; at least one.
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
        """Returns the stems of two channels, [1, 2, sources, segment], see ``stereo``."""
        left, right, mid = self.rows[0]
        if MID not in self.loud:
            return self.rows[:, :MID]
        return placed(mid, (left - right) / 2, self.mixture[:MID, 0], sample_rate)[None]


JOINS: tuple[Join, ...] = get_args(Join)
Level = Literal["rms", "none"]  # see ``Segmentation.level``


def _choice(words: Sequence[str]) -> Rule:
    return Rule(words.__contains__, "{name} {value!r}: choose one of " + ", ".join(words))


@dataclass(frozen=True)
class Segmentation(Checked):
    """The settings of segments for one prior. Lengths are samples at the prior's rate."""

    segment: int
    overlap: int  # of neighbouring segments
    multiple: int  # divides the length of every segment, see ``StemRunner.multiple``
    mixture_rms: float  # the level of the prior's training mixtures, linear
    join: Annotated[Join, _choice(JOINS)] = "crossfade"  # see ``drawing``
    # "rms" scales a mixture to the prior's level, "none" does not.
    level: Annotated[Level, _choice(get_args(Level))] = "rms"
    speeds: Speeds = (0.0,)  # semitones; the draws cycle through them, see ``speeds``
    # Of two channels: "channels" takes all draws of each, "image" those at speed 0 of each and all
    # others of their mean, see ``stereo``. "auto" is "image" where it applies, see ``image``.
    stereo: Annotated[Stereo, _choice(get_args(Stereo))] = "auto"
    means: bool = False  # whether a draw is a conditional mean

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image(False)  # raises its errors now

    @classmethod
    def of(
        cls,
        runner: StemRunner,
        segment: float,
        overlap: float,
        join: Join,
        level: Level,
        speeds: Sequence[float] | None,
        stereo: Stereo,
    ) -> Segmentation:
        """Makes the settings from seconds (``segment``, ``overlap``) for a runner's prior.

        ``speeds``: by default the preset's. With ``join="condition"`` only the own speed is used,
        because samples known at one speed lie between the samples at another. Raises UserError for
        invalid settings.
        """
        if not 0 <= overlap < segment / 2:
            raise UserError(f"overlap {overlap} s: choose at least 0 and under half of {segment} s")
        speeds = speeds_of(runner.preset) if speeds is None else tuple(speeds)
        speeds = (0.0,) if join == "condition" else speeds
        loaded, multiple = runner.loaded, runner.multiple
        samples = max(1, round(segment * loaded.sample_rate) // multiple) * multiple
        held = round(overlap * loaded.sample_rate)
        means = runner.preset.draws_means
        return cls(samples, held, multiple, loaded.mixture_rms, join, level, speeds, stereo, means)

    def image(self, keep_draws: bool) -> bool:
        """Returns whether draws at other speeds are of the mean of two channels.

        Raises UserError where "image" was asked for and does not apply. It gives an estimate and no
        draws, and does not condition segments on each other.
        """
        if self.stereo == "channels":
            return False
        reasons = {
            "a sampler whose draws are conditional means, such as default": not self.means,
            "join crossfade": self.join != "crossfade",
            "no draws that are kept": keep_draws,
        }
        missing = [reason for reason, applies in reasons.items() if applies]
        if missing and self.stereo == "image":
            raise UserError(f"stereo image needs {' and '.join(missing)}; use stereo channels")
        return not missing

    def cuts(self, time_: int) -> tuple[int, int]:
        """Returns segment and overlap for a mixture of ``time_`` samples.

        There are as few segments as ``self.segment`` allows, and they are as short as their number
        allows, so that the last one is hardly padded.
        """
        segment = min(self.segment, -(-time_ // self.multiple) * self.multiple)
        overlap = min(self.overlap, (segment - 1) // 2)
        count = len(starts(time_, segment, overlap))
        needed = max(2 * overlap, -(-(time_ - overlap) // count) + overlap)
        return -(-needed // self.multiple) * self.multiple, overlap

    def level_gain(self, level: Tensor, unit: float = 1.0) -> Tensor:
        """Returns the gain from this active level to the prior's; 1 for silence.

        With ``level = "none"`` it is ``unit``, by which the mixture was divided.
        """
        if self.level == "none":
            return torch.full_like(level, unit)
        return torch.where(level > 0, self.mixture_rms / level.clamp_min(1e-30), 1.0)
