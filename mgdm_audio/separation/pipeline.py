"""Separates music of any rate and length block by block.

Intermediate results are in stores: in memory, or in temporary files, with which memory does not
grow with the length.

1. The music is read and its peak measured.
2. It is resampled to the prior's rate and its active level measured.
3. Each segment is separated and joined to its neighbours; first with the preset that the sampler
   starts from, if there is one.
4. The stems are resampled back, and the content above the prior's bandwidth is added to them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.audio.resampling import PASSBAND, resample_span
from mgdm_audio.audio.store import Store
from mgdm_audio.engine.runner import Progress, Workers
from mgdm_audio.separation.drawing import Drawing
from mgdm_audio.separation.residual import reach, share_residual, spans
from mgdm_audio.separation.result import Separation
from mgdm_audio.separation.runner import StemRunner
from mgdm_audio.separation.segments import Segmentation, level_of, powers, starts
from mgdm_audio.separation.starting import prepare_start, starts_by_image
from mgdm_audio.separation.uncertainty import Spread, SpreadMap

_SECONDS = 8  # the length of a resampled block


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
    on_progress: Progress | None = None,
) -> Separation:
    """Separates consecutive ``blocks`` [channel, any] at ``sample_rate`` Hz.

    ``store(shape)`` makes a new store. ``settings``: the first entries of the report. Errors of
    ``blocks`` are raised here.
    """
    started, before = time.monotonic(), runner.calls.counts
    track = _Track(runner, segmentation, sample_rate, store)
    mixture, unit = track.taken_in(blocks)
    found, spread = track.separated(mixture, unit, seed, draws, keep_draws, on_progress)
    parts = track.at_rate(found, mixture, unit)
    found.close()
    taken = time.monotonic() - started
    report = settings | {
        "sample_rate": sample_rate,
        "channels": mixture.shape[0],
        "samples": mixture.time,
        "seconds": round(taken, 3),
        "seconds_per_second": round(taken / (mixture.time / sample_rate), 3),
        "denoiser_calls": {way: n - before[way] for way, n in runner.calls.counts.items()},
    }
    return Separation(runner.stems, mixture, parts, sample_rate, report, spread)


class _Track:
    """The steps of a separation, for one track."""

    def __init__(
        self,
        runner: StemRunner,
        segmentation: Segmentation,
        sample_rate: int,
        store: Callable[[tuple[int, ...]], Store],
    ) -> None:
        self.runner, self.segmentation = runner, segmentation
        self.store, self.sample_rate = store, sample_rate
        self.rate = runner.loaded.sample_rate  # the prior's

    def taken_in(self, blocks: Iterable[Tensor]) -> tuple[Store, float]:
        """Stores the mixture [channel, time] and returns it with its unit, a power of two."""
        mixture, peak = None, 0.0
        for block in blocks:
            mixture = mixture or self.store((block.shape[0],))
            mixture.append(block)
            peak = max(peak, float(block.abs().max()))
        assert mixture is not None  # a file without samples is refused
        # Divided by it, samples are exact and near full scale, so their squares fit in float32.
        return mixture, 2.0 ** max(-126, min(math.frexp(peak)[1], 127))

    def _resampled(self, mixture: Store, unit: float) -> tuple[Store, Tensor]:
        """Returns the mixture over its unit at the prior's rate, and its ``powers``."""
        rate, found, seconds = self.rate, self.store(mixture.shape), []

        def scaled(start: int, stop: int) -> Tensor:
            return mixture.read(start, stop).to(self.runner.signal_device) / unit

        common = math.gcd(self.sample_rate, rate)
        length = -(-mixture.time * (rate // common) // (self.sample_rate // common))
        for start in range(0, length, _SECONDS * rate):
            stop = min(start + _SECONDS * rate, length)
            part = resample_span(scaled, mixture.time, self.sample_rate, rate, start, stop)
            seconds.append(powers(part, rate))
            found.append(part)
        return found, torch.cat(seconds)

    def separated(
        self,
        mixture: Store,
        unit: float,
        seed: int,
        draws: int,
        keep: bool,
        on_progress: Progress | None,
    ) -> tuple[Store, Spread | None]:
        """Separates at the prior's rate; returns mean and draws [part, channel, stem, time]."""
        channels, rate, runner = mixture.shape[0], self.rate, self.runner

        resampled, power = self._resampled(mixture, unit)
        length = resampled.time
        gain = self.segmentation.level_gain(level_of(power), unit).to(runner.device)
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
            speeds=self.segmentation.speeds,
            seed=seed,
            draws=draws,
            keep=keep,
            image=channels == 2 and self.segmentation.image(keep),
            on_progress=on_progress,
        )
        started = None
        if runner.preset.start is not None:
            image = channels == 2 and starts_by_image(self.segmentation, runner.preset.start)
            started = prepare_start(drawing, runner.preset.start, segment, self.store, image)
        for rows in drawing.pieces():
            found.append(rows / gain)
        resampled.close()
        if started is not None:
            started.close()
        return found, self._spread(spread, unit / gain.cpu(), draws)

    def _spread(self, spread: SpreadMap, scale: Tensor, draws: int) -> Spread | None:
        """The spread in the mixture's unit; None of a single draw that is no mean."""
        if draws == 1 and not (self.runner.preset.draws_means and spread.energy.any()):
            return None
        std = spread.std().transpose(0, 1) * scale
        names = self.runner.stems
        return Spread(dict(zip(names, std, strict=True)), spread.hop, spread.edges)

    def at_rate(self, found: Store, mixture: Store, unit: float) -> Store:
        """Resamples to the mixture's rate: [part, stem, channel, time], summing to the mixture."""
        parts, channels, _ = found.shape
        stems = self.store((parts, len(self.runner.stems), channels))
        # Content near and above the prior's Nyquist frequency belongs to some of the stems.
        cutoff = PASSBAND * min(self.rate, self.sample_rate) / 2
        margin, device = reach(self.sample_rate), self.runner.signal_device

        def read(start: int, stop: int) -> Tensor:
            return found.read(start, stop).to(device)

        def shared(bounds: tuple[int, int]) -> Tensor:
            start, stop = bounds
            low, high = max(0, start - margin), min(stop + margin, mixture.time)
            around = mixture.read(low, high).to(device)
            inner = slice(start - low, stop - low)
            back = resample_span(read, found.time, self.rate, self.sample_rate, low, high)
            return torch.stack(
                [
                    share_residual(around / unit, part, self.sample_rate, cutoff)[..., inner] * unit
                    for part in back.transpose(1, 2)
                ]
            )

        with Workers(self.runner.workers) as workers:
            for part in workers.map(shared, spans(mixture.time, self.sample_rate)):
                stems.append(part)
        return stems
