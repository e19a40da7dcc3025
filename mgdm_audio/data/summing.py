"""Source files -> the stems of one track: summed, padded to one length, mono, at one rate.

The files are read twice: to be measured, since a stem is as long as the track's longest source, and
to be summed. Both go block by block: of a track, memory holds one stem at the rate that is written.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.audio.pcm import full_scale
from mgdm_audio.audio.reading import Reading
from mgdm_audio.audio.resampling import resample_span
from mgdm_audio.audio.wholeness import Extent, measure
from mgdm_audio.data.plan import Decision, Plan, Source
from mgdm_audio.errors import UserError

_BLOCK = 2**18  # samples made at a time


@dataclass(frozen=True)
class Survey:
    """What the planned sources of a track hold."""

    extents: dict[Source, Extent]
    seconds: Fraction  # of the longest one
    decisions: tuple[Decision, ...]

    def describe(self, sources: Sequence[Source]) -> list[dict[str, Any]]:
        """Returns the entries of a stem's sources for the manifest."""
        return [
            {
                "path": source.path,
                **({} if source.stream is None else {"stream": source.stream}),
                "program": source.program,
                "bytes": self.extents[source].size,
                "mtime_ns": self.extents[source].mtime_ns,
                "sha256": self.extents[source].sha256,
                "sample_rate": self.extents[source].sample_rate,
                "frames": self.extents[source].frames,
                "channels": self.extents[source].channels,
            }
            for source in sources
        ]


def survey(track: Path, plan: Plan) -> Survey:
    """Measure the sources of the track in ``track``. Raises UserError where one is damaged."""
    planned = [source for sources in plan.stems.values() for source in sources]
    extents = {source: measure(source.file(track), source.stream or 0) for source in planned}
    seconds = max(Fraction(e.frames, e.sample_rate) for e in extents.values())
    decisions = []
    for source, extent in extents.items():
        for note in extent.notes:
            decisions.append(Decision(source.path, "converted", note))
        if extent.channels > 1:
            decisions.append(Decision(source.path, "averaged", f"{extent.channels} channels"))
        wanted = math.ceil(seconds * extent.sample_rate)
        if extent.frames < wanted:
            why = f"{extent.frames} of {wanted} samples"
            decisions.append(Decision(source.path, "padded", why))
    return Survey(extents, seconds, tuple(decisions))


def sum_sources(track: Path, sources: Sequence[Source], survey: Survey, sample_rate: int) -> Tensor:
    """[ceil(survey.seconds * sample_rate)] float64, zeros where there is no source.

    Channels are averaged; zeros follow what ends earlier. Sums are exact (float64) and are
    resampled once, in float32; at the source's own rate they are not touched. Raises UserError
    where a file cannot be read any more, or is no longer the one that was measured.
    """
    total = torch.zeros(math.ceil(survey.seconds * sample_rate), dtype=torch.float64)
    by_rate: dict[int, list[_Waveform]] = {}
    for source in sources:
        rate = survey.extents[source].sample_rate
        by_rate.setdefault(rate, []).append(_Waveform(track, source, survey.extents[source]))
    for rate, waveforms in sorted(by_rate.items()):
        time = math.ceil(survey.seconds * rate)

        def single(start: int, stop: int, parts: list[_Waveform] = waveforms) -> Tensor:
            # float32: fifty times faster to filter than float64, and 24 bits are what is written.
            return _sum(parts, start, stop).float()

        for start in range(0, len(total), _BLOCK):
            stop = min(start + _BLOCK, len(total))
            if rate == sample_rate:
                total[start:stop] += _sum(waveforms, start, stop)
            else:
                total[start:stop] += resample_span(single, time, rate, sample_rate, start, stop)
        for waveform in waveforms:
            waveform.finish()
    return total


class _Waveform:
    """A source as [time] float64, its channels averaged, which is read forwards."""

    def __init__(self, track: Path, source: Source, measured: Extent) -> None:
        self._blocks = Reading(source.file(track), source.stream or 0, on_note=lambda line: None)
        self._measured = measured
        self._begin, self._held = 0, torch.zeros(0, dtype=torch.float64)

    def read(self, start: int, stop: int) -> Tensor:
        """[stop - start]; zeros follow the end. ``start`` is no less than it was before."""
        self._held = self._held[start - self._begin :]
        self._begin = start
        while len(self._held) < stop - start:
            block = next(self._blocks, None)
            if block is None:
                break
            self._held = torch.cat([self._held, block.samples.double().mean(0)])
        part = self._held[: stop - start]
        return torch.nn.functional.pad(part, (0, stop - start - len(part)))

    def finish(self) -> None:
        """Raise UserError where the file is not the one that was measured."""
        for _ in self._blocks:
            pass
        if self._blocks.sha256 != self._measured.sha256:
            raise UserError(f"{self._blocks.path}: changed while it was read; run again")


def _sum(waveforms: list[_Waveform], start: int, stop: int) -> Tensor:
    return torch.stack([waveform.read(start, stop) for waveform in waveforms]).sum(0)


def narrowest_subtype(samples: Tensor) -> str:
    """PCM_16 where it holds the samples exactly, FLOAT where they leave full scale, else PCM_24."""
    parts = samples.double().split(_BLOCK)
    if all(_on_grid(part) and _fits(part, "PCM_16") for part in parts):
        return "PCM_16"
    return "PCM_24" if all(_fits(part, "PCM_24") for part in parts) else "FLOAT"


def _on_grid(samples: Tensor) -> bool:
    steps = samples * full_scale("PCM_16")
    return bool(steps.equal(steps.round()))


def _fits(samples: Tensor, subtype: str) -> bool:
    full = full_scale(subtype)
    low, high = (samples * full).aminmax()
    return bool(-full <= low.round() and high.round() <= full - 1)
