"""Measures one system on one track, for a benchmark's record.

``seconds``           wall time from the mixture's samples to the stems', with resampling, without
                      files and scoring; a process calls the network once before the measurement
``calls``             denoiser calls, a batch of draws counting once: without gradient (forward),
                      with (gradient), and backward passes, of which one call may have several
``denoiser_seconds``  the part of ``seconds`` spent in the network, forward and backward
                      (``CallCounter``); the rest is spent in the sampler, in autograd outside the
                      network, and in the separator. A GPU is synchronised before each reading
``peak_memory_bytes`` see ``PeakMemory``; null where it is unknown
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.audio.io import read
from mgdm_audio.digest import hash_json
from mgdm_audio.engine.memory import PeakMemory
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.benchmark.baselines import baselines
from mgdm_audio.evaluation.benchmark.suite import Suite, System, TrackSet
from mgdm_audio.evaluation.folders import track_number
from mgdm_audio.evaluation.metric_registry import Metric, find_metrics
from mgdm_audio.evaluation.metrics import si_sdr_improvement, why_none
from mgdm_audio.priors.folder import LoadedPrior
from mgdm_audio.samplers.presets import Preset
from mgdm_audio.separation.segments import starts
from mgdm_audio.separation.separator import Separator

Record = dict[str, Any]
Progress = Callable[[float], None]
"""A progress callback is called with the fraction of a row that is done."""


@dataclass(frozen=True)
class Row:
    """One system on one track."""

    set: TrackSet
    system: System
    track: str
    files: dict[str, Path]  # stem -> file
    position: float  # of an excerpt: at 0 it starts with the track, at 1 it ends with it

    @property
    def name(self) -> str:
        return f"{self.set.name}/{self.system.name}/{self.track}"


class Measuring:
    """Separates tracks with the ``presets`` (by a system's name) on one prior, and scores them."""

    def __init__(
        self,
        suite: Suite,
        loaded: LoadedPrior,
        presets: Mapping[str, Preset],
        device: torch.device,
    ) -> None:
        self.suite, self.loaded, self.presets, self.device = suite, loaded, presets, device
        self._warm: set[tuple[int, int]] = set()  # (draws, length) of earlier network calls

    def measure(self, row: Row, progress: Progress, sha256: str | None = None) -> Record:
        """What is new in the row's record. Raises UserError for what cannot be separated.

        ``sha256``: of the stems' files, see ``load_stems``.
        """
        truth, rate = self.truth(row, sha256)
        mixture = truth.double().sum(0).float()
        if row.system.is_reference:
            estimates, costs = self._refer(row, mixture, truth, rate)
        else:
            estimates, costs = self._separate(row, mixture, rate, progress)
        if not estimates.isfinite().all():
            raise UserError(f"system {row.system.name}: its stems are not finite")
        gains = si_sdr_improvement(estimates, truth, rate)
        record = costs | {"audio_seconds": truth.shape[-1] / rate, "windows": len(gains)}
        if not len(gains):
            return record | {"status": "skipped", "reason": why_none(truth.shape[-1], rate)}
        means = dict(zip(row.files, gains.mean(0).tolist(), strict=True))
        record |= {"status": "scored", "si_sdri": means | {"all": fmean(means.values())}}
        if self.suite.metrics:
            record["scores"] = {
                name: _columns(metric, metric.compute(estimates, truth, rate, list(row.files)))
                for name, metric in find_metrics(list(self.suite.metrics)).items()
            }
        return record

    def truth(self, row: Row, sha256: str | None = None) -> tuple[Tensor, int]:
        """The true stems [stem, channel, time] of the row and their rate in Hz, see ``load_stems``.

        Raises UserError too where the row's system cannot separate them under this prior.
        """
        first, system = next(iter(row.files.values())), row.system.source
        if unknown := sorted(row.files.keys() - set(self.loaded.stems)):
            known = ", ".join(self.loaded.stems)
            raise UserError(f"{row.files[unknown[0]]}: the prior's stems are {known}")
        if len(row.files) < 2:
            raise UserError(f"{first.parent}: has one stem; separation needs two or more")
        if row.system.is_reference and system not in baselines(self.loaded):
            raise UserError(f"{system}: the prior {self.loaded.name} has no bands")
        truth, rate = load_stems(row.files, row.set.seconds, row.set.start, row.position, sha256)
        if system == "wiener-split" and rate != (wanted := self.loaded.sample_rate):
            raise UserError(f"{first}: wiener-split needs the prior's {wanted} Hz, not {rate} Hz")
        return truth, rate

    def _refer(self, row: Row, mixture: Tensor, truth: Tensor, rate: int) -> tuple[Tensor, Record]:
        """Estimates [stem, channel, time] by a reference system, which calls no denoiser."""
        found = baselines(self.loaded)
        peak = PeakMemory(self.device)
        with torch.no_grad():
            begun = time.perf_counter()
            estimates = found[row.system.source](mixture, truth, list(row.files))
            seconds = time.perf_counter() - begun
        return estimates, {"seconds": seconds, "peak_memory_bytes": peak.read()}

    def _separate(
        self, row: Row, mixture: Tensor, rate: int, progress: Progress
    ) -> tuple[Tensor, Record]:
        """Estimates [stem, channel, time] by a sampler, as ``mgdm-audio separate`` does."""
        separator = self.separator(self.presets[row.system.name])
        self._warm_up(separator, mixture.shape[-1], rate)
        separator.calls.timed = True
        separator.workers = 1  # network time is measured for one call at a time
        peak = PeakMemory(self.device)
        begun = time.perf_counter()
        stems = separator.separate(
            mixture,
            rate,
            seed=self.suite.seed + track_number(row.track),
            on_progress=lambda done, total: progress(done / total),
        )
        seconds = time.perf_counter() - begun
        calls = separator.calls
        return torch.stack([stems[name] for name in row.files]), {
            "seconds": seconds,
            "denoiser_seconds": calls.seconds,
            "calls": {
                "forward": calls.forward,
                "gradient": calls.gradient,
                "backward": calls.backward,
            },
            "segments": self._segments(separator, mixture.shape[-1], rate),
            "peak_memory_bytes": peak.read(),
            "threads": torch.get_num_threads(),
        }

    def separator(self, preset: Preset) -> Separator:
        suite = self.suite
        return Separator(
            self.loaded,
            preset,
            device=suite.device,
            level=suite.level,
            batch_size=suite.batch_size,
            precision=suite.precision,
        )

    def _segments(self, separator: Separator, samples: int, rate: int) -> int:
        time_ = -(-samples * self.loaded.sample_rate // rate)
        return len(starts(time_, separator.segmentation.segment, separator.segmentation.overlap))

    def _warm_up(self, separator: Separator, samples: int, rate: int) -> None:
        """Calls the network once per shape, uncounted, since the first call sets up kernels."""
        time_ = min(-(-samples * self.loaded.sample_rate // rate), separator.segment)
        time_ = -(-time_ // separator.multiple) * separator.multiple
        batch = min(separator.preset.draws, separator.batch_size)
        if (batch, time_) in self._warm:
            return
        x = torch.zeros(batch, len(self.loaded.stems), time_, device=self.device)
        uncounted = self.separator(separator.preset)
        with torch.no_grad():
            uncounted.prior.denoiser(x, torch.ones((), device=self.device))
        self._warm.add((batch, time_))


def _columns(metric: Metric, entry: Record) -> Record:
    """The scores in a metric's entry: column -> {stem: score or None}, {} of a column without."""
    return {column: entry.get(column, {}) for column in metric.columns}


def load_stems(
    files: dict[str, Path],
    seconds: float | None = None,
    start: float | None = None,
    position: float = 0.5,
    sha256: str | None = None,
) -> tuple[Tensor, int]:
    """Reads ([stem, channel, time], rate in Hz) of a track, or of an excerpt of ``seconds``.

    These begin ``start`` seconds into the track, or lie at ``position``, see ``Row``.

    ``sha256``: ``hash_json`` of stem -> the file's, if it is known. Raises UserError where the
    stems differ in length, rate or channels, end before ``start``, or have changed since.
    """
    parts = {path: read(path, damaged="refuse") for path in files.values()}
    if sha256 not in (None, hash_json({s: parts[path].sha256 for s, path in files.items()})):
        raise UserError(f"{next(iter(files.values())).parent}: changed meanwhile; run again")
    first, audio = next(iter(parts.items()))
    for path, part in parts.items():
        if (part.samples.shape, part.sample_rate) != (audio.samples.shape, audio.sample_rate):
            raise UserError(
                f"{path}: differs from {first} in length, channels or rate; make them equal"
            )
    stems = torch.stack([part.samples for part in parts.values()])
    if seconds is not None:
        time_, rate = stems.shape[-1], audio.sample_rate
        length = max(1, round(seconds * rate))
        room = max(0, time_ - length)
        begin = round(position * room) if start is None else round(start * rate)
        if begin >= time_:
            raise UserError(f"{first}: ends at {time_ / rate:g} s, before start = {start:g}")
        stems = stems[..., begin : begin + length]
    return stems, audio.sample_rate
