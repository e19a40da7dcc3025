"""Files that wait, are separated one at a time, and are kept until they are removed."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mgdm_audio.audio.encoding.formats import FormatName, find_format
from mgdm_audio.audio.reading import Reading
from mgdm_audio.errors import UserError, recorded
from mgdm_audio.output.layout import DEFAULT_TEMPLATE, Layout
from mgdm_audio.report import write_page
from mgdm_audio.separation.separator import Separator
from mgdm_audio.serve.limits import Limits

Work = Callable[[Path, Path, Callable[[int, int], None]], Mapping[str, Path]]
"""(file, new folder, on_progress(done, total)) -> the results in that folder, by their names."""


class Stopped(Exception):
    """Raised out of the work on a job that was removed."""


@dataclass(eq=False)
class Job:
    """One file; ``id`` cannot be guessed, and who does not know it cannot ask for the job."""

    name: str
    folder: Path
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: Literal["arriving", "waiting", "working", "done", "failed"] = "arriving"
    done: int = 0
    total: int = 1
    message: str = ""  # why it failed
    results: Mapping[str, Path] = field(default_factory=dict)
    began: float = 0.0  # of ``time.monotonic``
    seconds: float = 0.0  # that the work has taken so far
    removed: bool = False

    @property
    def source(self) -> Path:
        return self.folder / "in" / self.name

    def over(self) -> bool:
        return self.state in ("done", "failed")


class Jobs:
    """A queue with one worker, a thread. All files are below ``room``, which ``close`` removes.

    ``log``: a folder that stays, for the tracebacks of bugs, see ``recorded``.
    """

    def __init__(
        self, work: Work, room: Path, limits: Limits | None = None, log: Path | None = None
    ) -> None:
        self._work, self.room, self.log = work, room, log
        self.limits = limits or Limits()
        self._identity = _identity(room)
        self._jobs: dict[str, Job] = {}  # the oldest first
        self._change, self._closed = threading.Condition(threading.RLock()), False
        self._thread = threading.Thread(target=self._run, name="separation", daemon=True)
        self._thread.start()

    def open(self, name: str) -> Job:
        """A job whose file, ``source``, is to be written.

        Raises UserError if too many wait, if the disk is full, and if ``room`` is gone: another
        user may have made a folder of that name since.
        """
        if _identity(self.room) != self._identity:
            raise UserError("the folder for temporary files is gone; start the server again")
        self.limits.require_disk(self.room, 1e6 * self.limits.megabytes)
        with self._change:
            unfinished = sum(not job.over() for job in self._jobs.values())
            if self._closed or unfinished >= self.limits.waiting:
                raise UserError(f"{unfinished} files wait already; try again when some are done")
            job = Job(name, self.room)
            job.folder = self.room / job.id
            self._jobs[job.id] = job
        job.folder.mkdir(mode=0o700)
        job.source.parent.mkdir()
        return job

    def add(self, job: Job) -> None:
        """Its file is whole: work on it when its turn comes."""
        with self._change:
            job.state = "waiting"
            self._change.notify_all()

    def find(self, identity: str) -> Job | None:
        return self._jobs.get(identity)

    def describe(self, job: Job) -> dict[str, Any]:
        """The state of a job, for JSON. ``ahead``: jobs that come before it."""
        with self._change:
            if job.state == "working":
                job.seconds = time.monotonic() - job.began
            turn = list(self._jobs.values())
            ahead = [j for j in turn[: turn.index(job)] if not j.over()] if job in turn else []
            return {
                "id": job.id,
                "name": job.name,
                "state": job.state,
                "ahead": len(ahead),
                "share": job.done / job.total,
                "seconds": job.seconds,
                "message": job.message,
                "results": list(job.results),
            }

    def wait(self, job: Job, seconds: float | None = None) -> bool:
        """Until it is over; whether it is, after so many seconds."""
        with self._change:
            return self._change.wait_for(job.over, seconds)

    def remove(self, job: Job) -> None:
        """Forget it and its files; work on it stops at its next step."""
        with self._change:
            self._jobs.pop(job.id, None)
            job.removed = True
            if job.state != "working":  # else by the worker
                shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Stop the work and remove all files."""
        with self._change:
            self._closed = True
            for job in self._jobs.values():
                job.removed = True
            self._change.notify_all()
        self._thread.join(30)  # a step of a large network takes some time
        shutil.rmtree(self.room, ignore_errors=True)

    def _run(self) -> None:
        while job := self._next():
            try:
                step = partial(self._step, job)
                self._finish(job, "done", self._work(job.source, job.folder / "out", step))
            except Stopped:
                self._finish(job, "failed", message="removed")
            except UserError as error:
                # Its path is ours, and nothing to the user.
                line = " ".join(str(error).split()).replace(str(job.source), job.name)
                self._finish(job, "failed", message=line)
            except Exception as error:  # a bug, which ends neither the worker nor its other jobs
                self._finish(job, "failed", message=recorded(error, self.log, job.name))

    def _finish(
        self,
        job: Job,
        state: Literal["done", "failed"],
        results: Mapping[str, Path] | None = None,
        message: str = "",
    ) -> None:
        with self._change:
            job.results, job.message = results or {}, message
            job.state, job.seconds = state, time.monotonic() - job.began
            shutil.rmtree(job.source.parent, ignore_errors=True)
            if job.removed or state == "failed":
                shutil.rmtree(job.folder, ignore_errors=True)
            over = [j for j in self._jobs.values() if j.over()]
            for old in over[: -self.limits.kept]:
                self.remove(old)
            self._change.notify_all()

    def _next(self) -> Job | None:
        """The next job, waited for; None after ``close``."""
        with self._change:
            while not self._closed:
                for job in self._jobs.values():
                    if job.state == "waiting":
                        job.state, job.began = "working", time.monotonic()
                        return job
                self._change.wait()
            return None

    def _step(self, job: Job, done: int, total: int) -> None:
        job.done, job.total = done, total
        if job.removed:
            raise Stopped
        if time.monotonic() - job.began > 60 * self.limits.minutes:
            raise UserError(
                f"{job.name}: took longer than {self.limits.minutes:g} minutes, as --max-minutes "
                "says"
            )


def _identity(folder: Path) -> tuple[int, int] | None:
    """Returns device and inode of the folder itself, links not followed; None without one."""
    try:
        found = os.lstat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


PAGE = "report.html"


def separation(
    separator: Separator, limits: Limits | None = None, format: FormatName = "wav"
) -> Work:
    """Work that gives ``report.html`` and the stems' files, ``<stem>.wav`` or of another format."""
    bounds, form = limits or Limits(), find_format(format)

    def work(path: Path, out: Path, on_progress: Callable[[int, int], None]) -> Mapping[str, Path]:
        wanted = _unpacked(path, bounds, separator, on_progress)
        bounds.require_disk(path.parent, wanted)
        layout = Layout(out, DEFAULT_TEMPLATE, path.stem, separator.preset.name, form=form)
        with separator.separate(
            path, folder=out, max_seconds=60 * bounds.sound_minutes, on_progress=on_progress
        ) as found:
            found.save(layout)
        page = write_page(out / path.stem)
        return {PAGE: page} | {file.name: out / file for file in layout.files(separator.stems)}

    return work


def _unpacked(
    path: Path, limits: Limits, separator: Separator, on_progress: Callable[[int, int], None]
) -> float:
    """Bytes of disk that separating takes; UserError for sound that is too long.

    A file of some kilobytes may hold days of it: it is read to its end, or to the limit, before
    any of it is kept.
    """
    frames = 0
    for block in Reading(path):
        on_progress(0, 1)  # which may stop it
        frames += block.samples.shape[-1]
        if frames > 60 * limits.sound_minutes * block.sample_rate:
            raise UserError(
                f"{path}: holds more than {limits.sound_minutes:g} minutes of sound, as "
                "--max-sound-minutes says"
            )
    values = len(block.samples) * frames
    inner = values * separator.loaded.sample_rate / block.sample_rate  # at the prior's rate
    stems = len(separator.stems)
    # Floats of the mixture and of every stem, at both rates, the stems' files of 24 bits, and the
    # page with the files that its sound comes from, of two bytes a sample each at most.
    return 4 * (1 + stems) * (values + inner) + 3 * stems * values + 5 * stems * values
