"""Benchmarks systems on sets of tracks under one prior, with a score and a cost for every row.

A row is one system on one track. Its record, ``OUT/rows/<set>/<system>/<track>.json``, is written
whole or not at all. Its key is the hash of everything that the result depends on: a row is computed
again only if its key has changed. ``measuring`` describes the other entries.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mgdm_audio import atomic
from mgdm_audio.config import ConfigError
from mgdm_audio.digest import hash_file, hash_json, hash_own_code
from mgdm_audio.engine.device import choose_device
from mgdm_audio.engine.sharding import Shard
from mgdm_audio.errors import RefusedError, UserError, recorded
from mgdm_audio.evaluation.benchmark.measuring import Measuring, Progress, Record, Row
from mgdm_audio.evaluation.benchmark.plot import cost_plot, require_matplotlib
from mgdm_audio.evaluation.benchmark.suite import Suite, System, TrackSet
from mgdm_audio.evaluation.benchmark.table import Line, lines_of, panels_of, to_csv, to_markdown
from mgdm_audio.evaluation.estimates import Tracks
from mgdm_audio.evaluation.folders import find_tracks, track_number
from mgdm_audio.evaluation.metric_registry import find_metrics
from mgdm_audio.evaluation.metrics import has_window, why_none
from mgdm_audio.output.result_folder import require_writable, whole
from mgdm_audio.priors.folder import LoadedPrior, load_prior
from mgdm_audio.reading import read_json
from mgdm_audio.samplers.presets import Preset, load_preset
from mgdm_audio.separation.separator import DEFAULT_SAMPLER
from mgdm_audio.separation.speeds import speeds_of
from mgdm_audio.version import __version__

TABLE, PLOT = "table.json", "cost.svg"


class Bench:
    """Runs a suite and writes its results to the folder ``output``.

    Raises UserError for a prior, preset, option, device or folder of the suite that cannot be used.
    """

    def __init__(self, suite: Suite, output: Path, shard: Shard | None = None) -> None:
        self.suite, self.output = suite, output
        self.presets = {s.name: _preset(s) for s in suite.systems if not s.is_reference}
        self.skipped = [item.name for item in suite.sets if not item.reference]
        tracks = {s.name: _tracks(s) for s in suite.sets if s.reference}
        if not tracks:
            raise UserError(f"set {self.skipped[0]!r}: has no reference; give a folder of stems")
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
        metrics = find_metrics(list(suite.metrics)) if suite.metrics else {}
        self.measuring = Measuring(suite, self.loaded, self.presets, self.device)
        separator = self.measuring.separator(load_preset(DEFAULT_SAMPLER))  # its settings are all's
        self._settings_of_all: Record = {
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
        if metrics:
            versions = {name: metric.version for name, metric in metrics.items()}
            self._settings_of_all["metrics"] = versions
        self.why_no_plot = ""  # the remedy if the plot cannot be drawn
        try:
            require_matplotlib()
        except UserError as error:
            self.why_no_plot = str(error)
        self._inputs: dict[tuple[Path, ...], str] = {}  # files -> hash

    def finished(self) -> dict[str, Record]:
        """Returns the records of the rows that need no computation, by name."""
        found = {}
        for row in self.rows:
            record = _read(self._path(row))
            with contextlib.suppress(UserError):  # an unreadable stem, which its row will report
                if record.get("key") == hash_json(self.settings(row)):
                    found[row.name] = record
        return {k: v for k, v in found.items() if v.get("status") in ("scored", "skipped")}

    def unscored(self) -> dict[str, list[str]]:
        """Set -> the prior's stems of which no track of it has a reference, where there are any."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            found.setdefault(row.set.name, set()).update(row.files)
        return {
            name: [stem for stem in self.loaded.stems if stem not in there]
            for name, there in found.items()
            if not there >= set(self.loaded.stems)
        }

    def require_scorable(self) -> None:
        """Raises RefusedError if a row of this process, not yet finished, could not be scored.

        Its stems are read once for that. A track without a window to score is none of these, but a
        set is of which no track has one.
        """
        finished = self.finished()
        windows: dict[tuple[str, str, str], bool] = {}  # a row's stems -> whether they have one
        sets: dict[str, bool] = {}  # whether one of its tracks has
        for row in self.mine:
            # A sampler takes all that another does; a reference system may need more.
            key = (row.set.name, row.track, row.system.source if row.system.is_reference else "")
            if row.name not in finished and key not in windows:
                windows[key] = self._has_window(row)
                sets[row.set.name] = sets.get(row.set.name, False) or windows[key]
        for name in (name for name, scorable in sets.items() if not scorable):
            rows = [row for row in self.rows if row.set.name == name]
            if not any(self._has_window(row) for row in rows if row.system == rows[0].system):
                truth, rate = self.measuring.truth(rows[0])
                raise RefusedError(
                    f"set {name!r}: no track can be scored ({rows[0].track}: "
                    f"{why_none(truth.shape[-1], rate)}); give longer tracks or excerpts, in which "
                    "two stems sound"
                )

    def _has_window(self, row: Row) -> bool:
        try:
            return has_window(*self.measuring.truth(row))
        except UserError as error:
            raise RefusedError(f"set {row.set.name!r}: {error}") from None

    def run(
        self,
        on_row: Callable[[Row, Record], None] | None = None,
        on_progress: Callable[[Row, float], None] | None = None,
    ) -> list[Line]:
        """Computes the missing, changed or failed rows of this process's shard.

        Returns the lines of the table of all finished rows, which is written after every row.
        ``on_row(row, record)`` is called after each computed row, ``on_progress(row, rows done)``
        during it. An error in a row is its record's ``reason`` and affects no other row. Raises
        RefusedError, before anything is computed or written, as ``require_scorable`` does, and
        UserError if the output cannot be written.
        """
        self.require_scorable()
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
            atomic.write_text(path, _json(record))
            records[row.name] = record
            self._write([records[r.name] for r in self.rows if r.name in records])
            if on_row is not None:
                on_row(row, record)
        records |= self.finished()  # what other processes have written since
        return self._write([records[row.name] for row in self.rows if row.name in records])

    def _path(self, row: Row) -> Path:
        return self.output / "rows" / row.set.name / row.system.name / f"{row.track}.json"

    def _write(self, records: list[Record]) -> list[Line]:
        """Writes table.json, table.csv, table.md and cost.svg, and returns the table's lines.

        Where table.json is there, the others are of the same records. Without matplotlib there is
        no cost.svg (``why_no_plot``), and an older one is removed.
        """
        published = {name: preset.published for name, preset in self.presets.items()}
        lines = lines_of(records, published)
        table = {
            "version": __version__,
            "prior": self.loaded.name,
            "prior_revision": self.loaded.revision,
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
        files = {
            TABLE: _json(table),
            "table.csv": to_csv(lines),
            "table.md": f"{to_markdown(lines)}\n{made_with}\n",
        }
        if not self.why_no_plot:
            axes = ("seconds of computing per second of audio", "SI-SDRi, dB")
            files[PLOT] = cost_plot(panels_of(lines), *axes)
        with whole(self.output, TABLE, lambda folder: [folder / PLOT]) as fresh:
            for name, text in files.items():
                (fresh / name).write_bytes(text.encode(errors="backslashreplace"))
        return lines

    def _run_row(self, row: Row, progress: Progress) -> Record:
        """Returns the row's record, also after an error."""
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
            record |= self.measuring.measure(row, progress, settings["input_sha256"])
        except Exception as error:  # a bug in one sampler is no reason to lose the others' rows
            line = recorded(error, self.output, row.name)
            record["reason"] = line.removeprefix(f"{row.name}: ")  # the same of many rows
        return record

    def settings(self, row: Row) -> Record:
        """Returns everything that the row's result depends on, as JSON values."""
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


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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
    """The record at ``path``; {} where there is none that a table can be made of."""
    try:
        found = read_json(path)
        lines_of([found], {})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
        return {}
    return dict(found)
