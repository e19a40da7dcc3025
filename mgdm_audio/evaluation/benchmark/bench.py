"""Benchmarks: systems x sets of tracks under one prior, every row scored and its cost measured.

A row is one system on one track. Its record, ``OUT/rows/<set>/<system>/<track>.json``, is written
whole or not at all and carries a key, the hash of all that the result depends on: a row whose
record has that key is not computed again, after a change it is. What was measured:

``seconds``           wall time from the mixture's samples to the stems', resampling included, files
                      and scoring not; a network's first call of a process is made beforehand
``calls``             of the denoiser, a batch of draws counting once: without gradient (forward),
                      with (gradient), and backward passes, of which one call may see several
``denoiser_seconds``  of ``seconds``, what the network itself took, forward and backward
                      (``CallCounter``); the rest is the sampler's, autograd's around the network,
                      and the separator's. On a GPU both are read with the queue run dry
``peak_memory_bytes`` see ``PeakMemory``; null where it is unknown
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from mgdm_audio import atomic
from mgdm_audio.audio.io import read
from mgdm_audio.config import ConfigError
from mgdm_audio.digest import hash_file, hash_json, hash_own_code
from mgdm_audio.engine.device import choose_device
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.benchmark.baselines import baselines
from mgdm_audio.evaluation.benchmark.peak_memory import PeakMemory
from mgdm_audio.evaluation.benchmark.plot import cost_plot, require_matplotlib
from mgdm_audio.evaluation.benchmark.suite import Suite, System, TrackSet
from mgdm_audio.evaluation.benchmark.table import Line, lines_of, panels_of, to_csv, to_markdown
from mgdm_audio.evaluation.folders import Tracks, find_tracks, track_number
from mgdm_audio.evaluation.metrics import si_sdr_improvement, why_none
from mgdm_audio.output.result_folder import require_writable
from mgdm_audio.priors.folder import LoadedPrior, load_prior
from mgdm_audio.samplers.presets import Preset, load_preset
from mgdm_audio.separation.segments import starts
from mgdm_audio.separation.separator import DEFAULT_SAMPLER, Separator
from mgdm_audio.separation.speeds import speeds_of
from mgdm_audio.sharding import Shard
from mgdm_audio.version import __version__

Record = dict[str, Any]
Progress = Callable[[float], None]
"""Called with the share of a row that is done."""


@dataclass(frozen=True)
class Row:
    """One system on one track."""

    set: TrackSet
    system: System
    track: str
    files: dict[str, Path]  # stem -> file
    position: float  # of an excerpt: 0 is the track's beginning, 1 ends with it

    @property
    def name(self) -> str:
        return f"{self.set.name}/{self.system.name}/{self.track}"


class Bench:
    """A suite that is ready to run into the folder ``output``.

    Raises UserError for all that is wrong with the suite and can be known before computing: its
    prior, presets, options, device and folders.
    """

    def __init__(self, suite: Suite, output: Path, shard: Shard | None = None) -> None:
        self.suite, self.output = suite, output
        self.presets = {s.name: _preset(s) for s in suite.systems if not s.is_reference}
        self.skipped = [item.name for item in suite.sets if not item.reference]
        tracks = {s.name: _tracks(s) for s in suite.sets if s.reference}
        if not tracks:
            raise UserError(f"set {self.skipped[0]!r}: names no reference; give a folder of stems")
        self.rows = [
            Row(item, system, f"{track}-{i}" if item.per_track > 1 else track, files, position)
            for item in suite.sets
            for system in suite.systems
            for track, files in tracks.get(item.name, {}).items()
            for i, position in enumerate(item.positions)
        ]
        mine = (shard or Shard()).of(row.name for row in self.rows)
        self.mine = [row for row in self.rows if row.name in mine]
        self.device, self.device_reason = choose_device(suite.device)
        self.loaded: LoadedPrior = load_prior(suite.prior, self.device)
        separator = self._separator(load_preset(DEFAULT_SAMPLER))  # the settings that all share
        self._settings_of_all = {
            "version": __version__,
            "prior_sha256": self.loaded.sha256,
            "prior_config_sha256": hash_json(self.loaded.config),
            "torch": torch.__version__,
            "device": str(self.device),
            "gpu": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None,
            "precision": separator.precision,
            "batch_size": separator.batch_size,
            "segment_seconds": separator.segment / self.loaded.sample_rate,
            "overlap_seconds": separator.segmentation.overlap / self.loaded.sample_rate,
            "level": separator.segmentation.level,
        }
        self.why_no_plot = ""  # what to install, where it cannot be drawn
        try:
            require_matplotlib()
        except UserError as error:
            self.why_no_plot = str(error)
        self._inputs: dict[tuple[Path, ...], str] = {}  # files -> hash
        self._warm: set[tuple[int, int]] = set()  # (draws, length) that the network has seen

    def finished(self) -> dict[str, Record]:
        """Of the rows that need no computing, by name."""
        found = {}
        for row in self.rows:
            record = _read(self._path(row))
            with contextlib.suppress(UserError):  # an unreadable stem, which its row will tell
                if record.get("key") == hash_json(self.settings(row)):
                    found[row.name] = record
        return {k: v for k, v in found.items() if v.get("status") in ("scored", "skipped")}

    def run(
        self,
        on_row: Callable[[Row, Record], None] | None = None,
        on_progress: Callable[[Row, float], None] | None = None,
    ) -> list[Line]:
        """Compute what is missing, out of date or failed in this process's share of the rows.

        Returns the lines of the table of all rows that are there, which is written after every
        row. ``on_row(row, record)`` follows each that is computed, ``on_progress(row, rows done)``
        is called within. What goes wrong in a row is its record's ``reason`` and stops nothing but
        that row. Raises UserError only where nothing can be written.
        """
        require_writable(self.output)
        records = self.finished()
        for row in self.mine:
            if row.name in records:
                continue

            def progress(share: float, row: Row = row, done: int = len(records)) -> None:
                if on_progress is not None:
                    on_progress(row, done + share)

            progress(0)
            record = self._run_row(row, progress)
            path = self._path(row)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_json(path, record)
            records[row.name] = record
            self._write([records[r.name] for r in self.rows if r.name in records])
            if on_row is not None:
                on_row(row, record)
        records |= self.finished()  # what other processes have written since
        return self._write([records[row.name] for row in self.rows if row.name in records])

    def _path(self, row: Row) -> Path:
        return self.output / "rows" / row.set.name / row.system.name / f"{row.track}.json"

    def _write(self, records: list[Record]) -> list[Line]:
        """table.json, table.csv, table.md and cost.svg in the output folder; the table's lines.

        Without matplotlib there is no cost.svg (``why_no_plot``); an older one would be of other
        rows, and is removed.
        """
        published = {name: preset.published for name, preset in self.presets.items()}
        lines = lines_of(records, published)
        table = {
            "version": __version__,
            "prior": self.loaded.name,
            "prior_sha256": self.loaded.sha256,
            "device": str(self.device),
            "device_reason": self.device_reason,
            "threads": torch.get_num_threads(),
            "seed": self.suite.seed,
            "lines": lines,
        }
        made_with = (
            f"prior {self.loaded.name} ({self.loaded.sha256[:12]}), {self.device}, "
            f"mgdm_audio {__version__}"
        )
        _write_json(self.output / "table.json", table)
        atomic.write_text(self.output / "table.csv", to_csv(lines))
        atomic.write_text(self.output / "table.md", f"{to_markdown(lines)}\n{made_with}\n")
        if self.why_no_plot:
            (self.output / "cost.svg").unlink(missing_ok=True)
        else:
            axes = ("seconds of computing per second of audio", "SI-SDRi, dB")
            atomic.write_text(self.output / "cost.svg", cost_plot(panels_of(lines), *axes))
        return lines

    def _run_row(self, row: Row, progress: Progress) -> Record:
        """The row's record, whatever happens."""
        record: Record = {
            "set": row.set.name,
            "system": row.system.name,
            "track": row.track,
            "prior": self.loaded.name,
            "status": "failed",
        }
        try:
            settings = self.settings(row)
            record |= {"key": hash_json(settings), "settings": settings}
            record |= self._measure(row, progress)
        except UserError as error:
            record["reason"] = " ".join(str(error).split())
        except Exception as error:  # a bug in one sampler is no reason to lose the others' rows
            record["reason"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return record

    def settings(self, row: Row) -> Record:
        """All that the row's result depends on, ready for JSON."""
        files = tuple(row.files.values())
        if files not in self._inputs:
            self._inputs[files] = hash_json({s: hash_file(p) for s, p in row.files.items()})
        settings = self._settings_of_all | {
            "input_sha256": self._inputs[files],
            "excerpt_seconds": row.set.seconds,
            "excerpt_start": row.set.start,
            "excerpt_position": row.position,
            "seed": self.suite.seed + track_number(row.track),
        }
        if row.system.is_reference:
            return settings | {"sampler": row.system.source}
        preset = self.presets[row.system.name]
        if own := hash_own_code(type(preset.sampler), type(self.loaded.network)):
            settings["own_code_sha256"] = own
        return settings | {
            "sampler": type(preset.sampler).__name__,
            **preset.settings,
            "speeds": list(speeds_of(preset)),
            "draws": preset.draws,
        }

    def _measure(self, row: Row, progress: Progress) -> Record:
        """What is new in the row's record. Raises UserError for what cannot be separated."""
        truth, rate = load_stems(row.files, row.set.seconds, row.set.start, row.position)
        mixture = truth.double().sum(0).float()
        if unknown := sorted(row.files.keys() - set(self.loaded.stems)):
            known = ", ".join(self.loaded.stems)
            raise UserError(f"{row.files[unknown[0]]}: the prior's stems are {known}")
        if len(row.files) < 2:
            path = next(iter(row.files.values()))
            raise UserError(f"{path.parent}: holds one stem; separation needs two or more")
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
        return record | {"status": "scored", "si_sdri": means | {"all": fmean(means.values())}}

    def _refer(self, row: Row, mixture: Tensor, truth: Tensor, rate: int) -> tuple[Tensor, Record]:
        """[stem, channel, time] of a reference system, which calls no denoiser."""
        found = baselines(self.loaded)
        if row.system.source not in found:
            raise UserError(f"{row.system.source}: the prior {self.loaded.name} knows no bands")
        if row.system.source == "wiener-split" and rate != self.loaded.sample_rate:
            path = next(iter(row.files.values()))
            wanted = self.loaded.sample_rate
            raise UserError(f"{path}: wiener-split needs the prior's {wanted} Hz, not {rate} Hz")
        peak = PeakMemory(self.device)
        with torch.no_grad():
            begun = time.perf_counter()
            estimates = found[row.system.source](mixture, truth, list(row.files))
            seconds = time.perf_counter() - begun
        return estimates, {"seconds": seconds, "peak_memory_bytes": peak.read()}

    def _separate(
        self, row: Row, mixture: Tensor, rate: int, progress: Progress
    ) -> tuple[Tensor, Record]:
        """[stem, channel, time] of a sampler, as ``mgdm-audio separate`` makes them."""
        separator = self._separator(self.presets[row.system.name])
        self._warm_up(separator, mixture.shape[-1], rate)
        separator.calls.timed = True
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

    def _separator(self, preset: Preset) -> Separator:
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
        """One call of the network per shape, uncounted: the first sets up kernels and caches."""
        time_ = min(-(-samples * self.loaded.sample_rate // rate), separator.segment)
        time_ = -(-time_ // separator.multiple) * separator.multiple
        batch = min(separator.preset.draws, separator.batch_size)
        if (batch, time_) in self._warm:
            return
        x = torch.zeros(batch, len(self.loaded.stems), time_, device=self.device)
        uncounted = self._separator(separator.preset)
        with torch.no_grad():
            uncounted.prior.denoiser(x, torch.ones((), device=self.device))
        self._warm.add((batch, time_))


def load_stems(
    files: dict[str, Path],
    seconds: float | None = None,
    start: float | None = None,
    position: float = 0.5,
) -> tuple[Tensor, int]:
    """([stem, channel, time], rate) of a track, or of ``seconds`` of it.

    These begin ``start`` seconds into the track, or lie at ``position``, see ``Row``.

    Raises UserError where the stems differ in length, rate or channels, or end before ``start``.
    """
    parts = {path: read(path) for path in files.values()}
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


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    atomic.write_text(path, text + "\n")


def _preset(system: System) -> Preset:
    draws = [] if system.draws is None else [f"draws={system.draws}"]
    try:
        return load_preset(system.source, [*system.overrides, *draws])
    except ConfigError as error:
        raise ConfigError(f"system {system.name!r}: {error}") from None


def _tracks(item: TrackSet) -> Tracks:
    try:
        tracks = find_tracks(Path(item.reference))
    except UserError as error:
        raise UserError(f"set {item.name!r}: {error}") from None
    return dict(list(tracks.items())[: item.tracks])


def _read(path: Path) -> Record:
    """The record at ``path``; {} where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
