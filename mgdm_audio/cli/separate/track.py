"""One track of ``mgdm-audio separate``: a job for this process, or for a worker of a cluster."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgdm_audio.cli.options import progress

if TYPE_CHECKING:
    from mgdm_audio.audio.files import Track
    from mgdm_audio.output.layout import Layout
    from mgdm_audio.output.result_folder import Inputs
    from mgdm_audio.separation.separator import Separator

Item = tuple["Track", "Layout", str | None]
"""A track, where its files go, and why they would be another track's, if they would."""
Row = tuple[str, str, str, str]
"""Of the closing table: a track, seconds, residual in dB, state."""
Said = list[tuple[str, bool]]
"""Lines, and whether each is for standard error."""


def failed(track: "Track", line: str) -> tuple[Row, Said]:
    """Returns the row and the lines of a track that has an error."""
    return (track.name, "", "", f"error: {line}"), [(f"error: {line}", True)]


@dataclass(frozen=True)
class Run:
    """What is asked of every track, and how the separator is opened, once a process."""

    open: Callable[[], "Separator"]
    output: Path
    names: tuple[str, ...]  # of the stems that are written
    asked: dict[str, Any]  # of the separator
    files: dict[str, Any]  # settings of what is written
    limits: dict[str, Any]  # of what is read
    inputs: "Inputs"  # the user's files, none of which is replaced
    skip_existing: bool
    report: bool

    def __call__(self, item: Item) -> tuple[Row, Said]:
        """Separates a track; returns its row, and the lines that say so, or its error.

        An error stops no other track.
        """
        from mgdm_audio.errors import DamagedError, UserError, recorded
        from mgdm_audio.output.stem_files import check_inputs, is_done
        from mgdm_audio.report import ensure_page

        track, layout, clash = item
        folder = self.output / layout.record.parent
        try:
            if clash is not None:
                raise UserError(f"{track.path}: {clash}")
            settings = self.open().settings(**self.asked) | self.files
            draws = settings["draws"] if settings["keep_draws"] else 0
            check_inputs(layout, self.names, draws, self.inputs)
            if not (self.skip_existing and is_done(layout, track.path, settings)):
                return self._separated(track, layout, folder)
            said = [(f"{folder}: there already, unchanged", False)]
            if self.report and (missing := ensure_page(folder)) is not None:
                said.append((f"written: {missing}", False))
            return (track.name, "", "", "ok, there already"), said
        except Exception as error:  # a bug that one track meets is no reason to lose the others
            line = recorded(error, self.output, track.path)
            if isinstance(error, DamagedError):
                line += ", or go on with what is left: --damaged keep"
            return failed(track, line)

    def _separated(self, track: "Track", layout: "Layout", folder: Path) -> tuple[Row, Said]:
        from mgdm_audio.engine.memory import PeakMemory
        from mgdm_audio.report import write_page

        self._require_fit(track, layout)
        separator = self.open()
        peak = PeakMemory(separator.device)
        with progress(track.path.name) as move:
            found = separator.separate(
                track.path,
                folder=self.output,
                on_progress=move,
                two_stems=self.files["two_stems"],
                **self.asked,
                **self.limits,
            )
            with found:
                found.report["peak_memory_bytes"] = peak.read()
                chosen = found.choose(**(self.files["chosen"] or {}))
                record = chosen.save(layout, self.files["subtype"])
        page = write_page(folder) if self.report else None
        said = []
        if record["gain"] < 1:
            lowered = f"{-20 * math.log10(record['gain']):.2f} dB"
            said.append((f"{track.path}: stems lowered by {lowered}, or they would clip", True))
        seconds, residual = f"{record['seconds']:.1f}", f"{record['residual_db']:.0f}"
        if "input_sample_rate" in record:
            rates = f"{record['sample_rate']} Hz, not {record['input_sample_rate']}"
            said.append((f"{track.path}: {layout.form.name} is written at {rates}", True))
        if record["lossy"]:
            exact = f"{layout.form.name} is lossy: the files do not sum to the input exactly"
            said.append((f"{track.path}: {exact} (residual {residual} dB)", True))
        what = f"{', '.join(self.names)} ({seconds} s, residual {residual} dB)"
        said.append((f"{folder}: {what}", False))
        if page is not None:
            said.append((f"written: {page}", False))
        return (track.name, seconds, residual, "ok"), said

    def _require_fit(self, track: "Track", layout: "Layout") -> None:
        """Before hours of computing: UserError where the format has too few channels."""
        from mgdm_audio.audio.reading import Reading

        if layout.form.name == "wav":
            return
        reading = Reading(track.path, **self.limits)
        first = next(reading)
        reading.close()
        layout.form.require_channels(track.path, len(first.samples), first.mask)
