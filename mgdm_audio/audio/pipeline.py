"""From music of any rate and length, block by block, to its stems.

What lies between the steps waits in stores: in memory, or in temporary files where memory is not to
grow with the length.

1. The music is taken in, and its peak.
2. It is resampled to the prior's rate, and its active level taken.
3. Segment by segment is separated, and joined to its neighbours.
4. The stems are resampled back and given what the prior cannot hear.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.audio.bandwidth import reach, share_residual, span
from mgdm_audio.audio.drawing import Drawing
from mgdm_audio.audio.level import level_of, powers
from mgdm_audio.audio.pcm import Extremes
from mgdm_audio.audio.resampling import PASSBAND, resample_span
from mgdm_audio.audio.runner import StemRunner
from mgdm_audio.audio.segmentation import Segmentation
from mgdm_audio.audio.segments import starts
from mgdm_audio.audio.separation import check_stem, pair_with_rest
from mgdm_audio.audio.spread import Spread, SpreadMap
from mgdm_audio.engine.runner import Progress

_SECONDS = 8  # resampled at a time


class Store(Protocol):
    """Waveforms [*shape, time] that are written from front to back and read anywhere."""

    shape: tuple[int, ...]
    time: int

    def append(self, x: Tensor) -> None: ...
    def read(self, start: int, stop: int) -> Tensor: ...
    def close(self) -> None: ...


class Held:
    """A store in memory."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.time = shape, 0
        self._parts: list[Tensor] = []

    def append(self, x: Tensor) -> None:
        """[*shape, any], which follows what is there."""
        self._parts.append(x.cpu())
        self.time += x.shape[-1]

    def read(self, start: int, stop: int) -> Tensor:
        """[*shape, stop - start], not to be written to."""
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts, -1)]
        return self._parts[0][..., start:stop]

    def close(self) -> None:
        """Give the memory back."""
        self._parts = []


@dataclass(frozen=True)
class Separated:
    """What was found of one piece of music."""

    names: tuple[str, ...]  # of the stems
    mixture: Store  # [channel, time], as it was taken in
    parts: Store  # [part, stem, channel, time]: the mean of the draws, then those that are kept
    extremes: list[Extremes]  # of the parts
    power: dict[str, float]  # mean square of each stem
    spread: Spread | None  # None for a single draw
    report: dict[str, Any]


def separate_blocks(
    runner: StemRunner,
    segmentation: Segmentation,
    blocks: Iterable[Tensor],
    sample_rate: int,
    store: Callable[[tuple[int, ...]], Store],
    *,
    seed: int,
    draws: int,
    keep_draws: bool,
    settings: dict[str, Any],
    two_stems: str | None = None,
    on_progress: Progress | None = None,
) -> Separated:
    """Consecutive ``blocks`` [channel, any] at ``sample_rate`` Hz -> their stems, in stores.

    ``store(shape)``: a new one. ``settings``: with what the report begins. Raises what ``blocks``
    raise, and UserError for an unknown stem.
    """
    started, before = time.monotonic(), runner.calls.counts
    track = _Track(runner, segmentation, sample_rate, store, two_stems)
    mixture, unit = track.taken_in(blocks)
    found, spread = track.separated(mixture, unit, seed, draws, keep_draws, on_progress)
    parts, extremes, power = track.at_rate(found, mixture, unit)
    found.close()
    channels, seconds = mixture.shape[0], mixture.time / sample_rate
    taken = time.monotonic() - started
    report = settings | {
        "two_stems": two_stems,
        "sample_rate": sample_rate,
        "channels": channels,
        "samples": mixture.time,
        "seconds": round(taken, 3),
        "seconds_per_second": round(taken / seconds, 3),
        "denoiser_calls": {way: n - before[way] for way, n in runner.calls.counts.items()},
    }
    mean = (power / (channels * mixture.time)).tolist()
    return Separated(
        track.names,
        mixture,
        parts,
        extremes,
        dict(zip(track.names, mean, strict=True)),
        spread if draws > 1 else None,
        report,
    )


class _Track:
    """Music on its way through the steps."""

    def __init__(
        self,
        runner: StemRunner,
        segmentation: Segmentation,
        sample_rate: int,
        store: Callable[[tuple[int, ...]], Store],
        two_stems: str | None,
    ) -> None:
        self.runner, self.segmentation = runner, segmentation
        self.store, self.sample_rate = store, sample_rate
        self.rate = runner.loaded.sample_rate  # the prior's
        self.two_stems, self.names = two_stems, runner.stems
        if two_stems is not None:
            self.index, self.names = check_stem(two_stems, runner.stems)

    def taken_in(self, blocks: Iterable[Tensor]) -> tuple[Store, float]:
        """The mixture [channel, time], and the unit that brings it to full scale."""
        mixture, peak = None, 0.0
        for block in blocks:
            mixture = mixture or self.store((block.shape[0],))
            mixture.append(block)
            peak = max(peak, float(block.abs().max()))
        assert mixture is not None  # a file without samples is refused
        # A power of two rounds nothing, and at full scale no square over- or underflows float32.
        return mixture, 2.0 ** max(-126, min(math.frexp(peak)[1], 127))

    def separated(
        self,
        mixture: Store,
        unit: float,
        seed: int,
        draws: int,
        keep: bool,
        on_progress: Progress | None,
    ) -> tuple[Store, Spread]:
        """At the prior's rate: the mean and the draws that are kept [part, channel, stem, time]."""
        channels, rate, runner = mixture.shape[0], self.rate, self.runner

        def scaled(start: int, stop: int) -> Tensor:
            return mixture.read(start, stop) / unit

        resampled, seconds = self.store((channels,)), []
        common = math.gcd(self.sample_rate, rate)
        length = -(-mixture.time * (rate // common) // (self.sample_rate // common))
        for start in range(0, length, _SECONDS * rate):
            stop = min(start + _SECONDS * rate, length)
            part = resample_span(scaled, mixture.time, self.sample_rate, rate, start, stop)
            seconds.append(powers(part, rate))
            resampled.append(part)
        gain = self.segmentation.level_gain(level_of(torch.cat(seconds)), unit).to(runner.device)
        segment, overlap = self.segmentation.cuts(length)
        begin = starts(length, segment, overlap)

        def cut(index: int) -> Tensor:
            first = begin[index]
            part = resampled.read(first, min(first + segment, length))
            part = F.pad(part, (0, segment - part.shape[-1]))
            return part[:, None].to(runner.device) * gain

        found = self.store((1 + draws * keep, channels, len(runner.stems)))
        spread = SpreadMap(channels, len(runner.stems), length, rate)
        drawing = Drawing(
            runner,
            cut,
            len(begin),
            length,
            overlap,
            channels,
            spread,
            join=self.segmentation.join,
            seed=seed,
            draws=draws,
            keep=keep,
            on_progress=on_progress,
        )
        for rows in drawing.pieces():
            found.append(rows / gain)
        resampled.close()
        std = spread.std().transpose(0, 1) / gain.cpu() * unit
        if self.two_stems is not None:  # the two deviate alike, for their sum is given
            std = std[[self.index, self.index]]
        return found, Spread(dict(zip(self.names, std, strict=True)), spread.hop, spread.edges)

    def at_rate(
        self, found: Store, mixture: Store, unit: float
    ) -> tuple[Store, list[Extremes], Tensor]:
        """[part, stem, channel, time], the parts' extremes, and the energies of the stems."""
        parts, channels, _ = found.shape
        stems = self.store((parts, len(self.names), channels))
        extremes = [Extremes() for _ in range(parts)]
        power = torch.zeros(len(self.names), dtype=torch.float64)
        # What the prior cannot hear, near and above its Nyquist frequency, belongs to someone.
        cutoff = PASSBAND * min(self.rate, self.sample_rate) / 2
        margin = reach(self.sample_rate)
        for start, stop in spans(mixture.time, self.sample_rate):
            low, high = max(0, start - margin), min(stop + margin, mixture.time)
            around = mixture.read(low, high)
            inner = slice(start - low, stop - low)
            back = resample_span(found.read, found.time, self.rate, self.sample_rate, low, high)
            shared = []
            for i, part in enumerate(back.transpose(1, 2)):
                x = share_residual(around / unit, part, self.sample_rate, cutoff)[..., inner] * unit
                if self.two_stems is not None:
                    x = pair_with_rest(x, around[:, inner], self.index)
                extremes[i].add(x, around[:, inner])
                shared.append(x)
            power += shared[0].double().square().sum((1, 2))
            stems.append(torch.stack(shared))
        return stems, extremes, power


def spans(time_: int, sample_rate: int) -> Iterator[tuple[int, int]]:
    """Consecutive spans of a track, [start, stop)."""
    step = span(sample_rate)
    for start in range(0, time_, step):
        yield start, min(start + step, time_)
