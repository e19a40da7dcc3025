"""Separating a file of any length into files, in memory that does not grow with it.

The same arithmetic as ``Separator.separate_file`` and ``Separation.save``, on spans of the track:
what lies between the steps waits in temporary files.

1. The file is decoded once, and its peak taken.
2. It is resampled to the prior's rate, and its active level taken.
3. Segment by segment is separated, and joined to the one before.
4. The stems are resampled back and given what the prior cannot hear; their extremes are taken.
5. They are lowered if they would clip, rounded together and written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.audio.bandwidth import reach, share_residual, span
from mgdm_audio.audio.io import read_blocks
from mgdm_audio.audio.layout import Layout
from mgdm_audio.audio.pcm import Extremes
from mgdm_audio.audio.resampling import PASSBAND, resample_span
from mgdm_audio.audio.result_folder import unwritable
from mgdm_audio.audio.segments import starts, stitched
from mgdm_audio.audio.separation import check_stem, pair_with_rest
from mgdm_audio.audio.separator import STD_HOP, Progress, Separator, level_of, powers, timing
from mgdm_audio.audio.spool import Spool
from mgdm_audio.audio.stem_files import Block, Shape, check_subtype, write_result
from mgdm_audio.audio.uncertainty import confidence_db, uncertainty_record
from mgdm_audio.digest import hash_file

_SECONDS = 8  # resampled at a time


def separate_to_files(
    separator: Separator,
    path: str | Path,
    layout: Layout,
    *,
    subtype: str = "PCM_24",
    seed: int = 0,
    draws: int | None = None,
    keep_draws: bool = False,
    two_stems: str | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Separate ``path`` into the files of ``layout``; returns the record, as ``Separation.save``.

    Temporary files below ``layout.root`` take 4 bytes a sample of the input, of each stem at the
    prior's rate and of each stem at the input's, for each draw that is kept once more. Raises
    UserError, in one line, where the file cannot be read or the folder cannot be written to.
    """
    check_subtype(subtype)
    if two_stems is not None:
        check_stem(two_stems, separator.stems)
    path = Path(path)
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            track = _Track(separator, path, layout.root, stack, two_stems)
            return track.run(layout, subtype, seed, draws, keep_draws, on_progress)
    except OSError as error:
        raise unwritable(layout.root, error) from None


class _Track:
    """A track on its way through the five steps."""

    def __init__(
        self,
        separator: Separator,
        path: Path,
        folder: Path,
        stack: ExitStack,
        two_stems: str | None,
    ) -> None:
        self.separator, self.path, self.folder, self.stack = separator, path, folder, stack
        self.rate = separator.loaded.sample_rate  # the prior's
        self.two_stems, self.names = two_stems, separator.stems
        if two_stems is not None:
            self.index, self.names = check_stem(two_stems, separator.stems)

    def run(
        self,
        layout: Layout,
        subtype: str,
        seed: int,
        draws: int | None,
        keep: bool,
        on_progress: Progress | None,
    ) -> dict[str, Any]:
        started, calls = time.monotonic(), self.separator.calls
        before = calls.counts
        draws = draws or self.separator.preset.draws
        mixture, unit, sample_rate, sha256 = self._decoded(on_progress)
        found, std = self._separated(mixture, unit, sample_rate, seed, draws, keep, on_progress)
        stems, extremes, power = self._at_rate(found, mixture, unit, sample_rate)
        found.close()
        channels = mixture.shape[0]
        seconds = mixture.time / sample_rate
        report = self.separator.settings(seed=seed, draws=draws, keep_draws=keep) | {
            "input": self.path.name,
            "input_sha256": sha256,
            "two_stems": self.two_stems,
            "sample_rate": sample_rate,
            "channels": channels,
            "samples": mixture.time,
        }
        report |= timing(time.monotonic() - started, seconds)
        report["denoiser_calls"] = {way: n - before[way] for way, n in calls.counts.items()}
        gain = min(part.gain(subtype) for part in extremes)
        hop = round(STD_HOP * self.rate) / self.rate
        spread = dict(zip(self.names, std, strict=True)) if draws > 1 else None
        confidence = spread and confidence_db(
            dict(zip(self.names, (power / (channels * mixture.time)).tolist(), strict=True)),
            spread,
            seconds / hop,
        )
        return write_result(
            layout,
            self.names,
            Shape(channels, mixture.time, sample_rate),
            self._blocks(mixture, stems, sample_rate),
            draws if keep else 0,
            subtype,
            gain,
            report,
            uncertainty_record(draws, hop, spread, confidence, gain),
        )

    def _spool(self, *shape: int) -> Spool:
        spool = Spool(shape, self.folder)
        self.stack.callback(spool.close)
        return spool

    def _decoded(self, on_progress: Progress | None) -> tuple[Spool, float, int, str]:
        """The mixture [channel, time], the unit that brings it to full scale, its rate and hash."""
        spool, peak, sample_rate = None, 0.0, 0
        for block in read_blocks(self.path):
            if spool is None:
                spool, sample_rate = self._spool(block.samples.shape[0]), block.sample_rate
            spool.append(block.samples)
            peak = max(peak, float(block.samples.abs().max()))
            if on_progress is not None:
                on_progress(0, 1)  # nothing to show, but it may want to stop
        assert spool is not None  # a file without samples is refused
        # A power of two rounds nothing, and at full scale no square over- or underflows float32.
        unit = 2.0 ** max(-126, min(math.frexp(peak)[1], 127))
        return spool, unit, sample_rate, hash_file(self.path)

    def _separated(
        self,
        mixture: Spool,
        unit: float,
        sample_rate: int,
        seed: int,
        draws: int,
        keep: bool,
        on_progress: Progress | None,
    ) -> tuple[Spool, Tensor]:
        """At the prior's rate: the mean and the draws that are kept [part, channel, stem, time].

        And how far the draws lie apart, [stem, channel, window].
        """
        channels, rate, time_ = mixture.shape[0], self.rate, mixture.time

        def scaled(start: int, stop: int) -> Tensor:
            return mixture.read(start, stop) / unit

        resampled, seconds = self._spool(channels), []
        common = math.gcd(sample_rate, rate)
        length = -(-time_ * (rate // common) // (sample_rate // common))
        for start in range(0, length, _SECONDS * rate):
            stop = min(start + _SECONDS * rate, length)
            part = resample_span(scaled, time_, sample_rate, rate, start, stop)
            seconds.append(powers(part, rate))
            resampled.append(part)
        separator = self.separator
        gain = separator.level_gain(level_of(torch.cat(seconds)), unit).to(separator.device)
        segment, overlap = separator.cuts(length)
        begin = starts(length, segment, overlap)

        def cut(index: int) -> Tensor:
            first = begin[index]
            part = resampled.read(first, min(first + segment, length))
            part = torch.nn.functional.pad(part, (0, segment - part.shape[-1]))
            return part[:, None].to(separator.device) * gain

        found = self._spool(1 + draws * keep, channels, len(separator.stems))
        windows = _Windows((channels, len(separator.stems)), length, round(STD_HOP * rate))
        estimates = separator.estimates(cut, len(begin), overlap, seed, draws, keep, on_progress)
        for rows in stitched(estimates, length, overlap):
            found.append(torch.cat([rows[:1], rows[2:]]) / gain)
            windows.add(rows[1])
        resampled.close()
        std = windows.std().transpose(0, 1) / gain.cpu() * unit
        return found, std if self.two_stems is None else std[[self.index, self.index]]

    def _at_rate(
        self, found: Spool, mixture: Spool, unit: float, sample_rate: int
    ) -> tuple[Spool, list[Extremes], Tensor]:
        """[part, stem, channel, time], the parts' extremes, and the energies of the stems."""
        parts, channels, _ = found.shape
        stems = self._spool(parts, len(self.names), channels)
        extremes = [Extremes() for _ in range(parts)]
        power = torch.zeros(len(self.names), dtype=torch.float64)
        # What the prior cannot hear, near and above its Nyquist frequency, belongs to someone.
        cutoff = PASSBAND * min(self.rate, sample_rate) / 2
        margin = reach(sample_rate)

        def part_of(index: int, start: int, stop: int) -> Tensor:
            return found.read(start, stop)[index].transpose(0, 1)

        for start, stop in _spans(mixture.time, sample_rate):
            low, high = max(0, start - margin), min(stop + margin, mixture.time)
            around = mixture.read(low, high)
            inner = slice(start - low, stop - low)
            shared = []
            for i in range(parts):
                read = partial(part_of, i)
                back = resample_span(read, found.time, self.rate, sample_rate, low, high)
                x = share_residual(around / unit, back, sample_rate, cutoff)[..., inner] * unit
                if self.two_stems is not None:
                    x = pair_with_rest(x, around[:, inner], self.index)
                extremes[i].add(x, around[:, inner])
                shared.append(x)
            power += shared[0].double().square().sum((1, 2))
            stems.append(torch.stack(shared))
        return stems, extremes, power

    def _blocks(self, mixture: Spool, stems: Spool, sample_rate: int) -> Iterator[Block]:
        for start, stop in _spans(mixture.time, sample_rate):
            yield Block(mixture.read(start, stop), list(stems.read(start, stop)))


class _Windows:
    """Means of [*shape, time] over windows of ``hop`` samples, of which the last may be cut short.

    All in one tensor: thousands of small ones would keep the large ones between them from being
    given back to the system.
    """

    def __init__(self, shape: tuple[int, ...], time_: int, hop: int) -> None:
        self.hop, self.done, self.rest = hop, 0, torch.zeros(*shape, 0)
        self.means = torch.zeros(*shape, -(-time_ // hop))

    def add(self, variance: Tensor) -> None:
        """[*shape, any], which follows what was added before."""
        variance = torch.cat([self.rest, variance.cpu()], -1)
        whole = variance.shape[-1] // self.hop * self.hop
        for i in range(0, whole, self.hop):
            self.means[..., self.done] = variance[..., i : i + self.hop].mean(-1)
            self.done += 1
        self.rest = variance[..., whole:].clone()

    def std(self) -> Tensor:
        """[*shape, window]"""
        if self.rest.shape[-1]:
            self.means[..., self.done] = self.rest.mean(-1)
        return self.means.clamp_min(0).sqrt()


def _spans(time_: int, sample_rate: int) -> Iterator[tuple[int, int]]:
    step = span(sample_rate)
    for start in range(0, time_, step):
        yield start, min(start + step, time_)
