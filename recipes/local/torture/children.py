"""Commands in forked children of a process that has imported the package once."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

MOMENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink",
           "os.chmod", "os.truncate", "os.utime", "shutil.rmtree", "shutil.move"}  # fmt: skip
"""Audit events of calls that touch the file system; ``os.fsync``, which has none, is wrapped."""


class Counter:
    """Counts the file-system calls that concern a folder, and kills the process before one."""

    def __init__(self) -> None:
        self.folder, self.at, self.seen = "", 0, 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.folder or event not in MOMENTS or not arguments:
            return
        if event == "open" and not self._writes(arguments):
            return
        path = arguments[0]
        inside = isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(
            self.folder
        )
        if inside:
            self.touch()

    def _writes(self, arguments: tuple[object, ...]) -> bool:
        flags = arguments[2] if len(arguments) > 2 else 0
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    def touch(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


COUNTER = Counter()
sys.addaudithook(COUNTER)


def main(
    words: str, room: Path, log: Path | int, *, folder: Path | None = None, at: int = 0
) -> int:
    """Run the command in this process, a child; its exit code. ``at``: the call to be killed at.

    What it prints goes to ``log``, a file or a descriptor; the last line is the number of calls
    that were seen.
    """
    from mgdm_audio.cli.main import main as command

    os.chdir(room)
    with open(log, "w") as text:
        os.dup2(text.fileno(), 1)
        os.dup2(text.fileno(), 2)
    fsync = os.fsync

    def counted(descriptor: int) -> None:
        COUNTER.touch()
        fsync(descriptor)

    if folder is not None:
        COUNTER.folder, COUNTER.at, COUNTER.seen = str(folder), at, 0
        os.fsync = counted  # type: ignore[assignment]
    code = 0
    try:
        command(shlex.split(words))
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException as error:
        traceback.print_exception(error)
        code = 70
    COUNTER.folder = ""
    with contextlib.suppress(OSError):
        print(f"\ncalls: {COUNTER.seen}", flush=True)
    return code


def fork(work: Callable[[], int]) -> int:
    """The process that runs ``work`` and ends with its result."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 71
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int, seconds: float | None = None) -> int:
    """Its exit code, negative of the signal that ended it; it is killed after ``seconds``."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, 0 if end is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            end = None
        else:
            time.sleep(0.002)


def calls_of(log: Path) -> int:
    lines = log.read_text(errors="replace").splitlines()
    return int(lines[-1].removeprefix("calls: ")) if lines and "calls: " in lines[-1] else 0


def warm_up() -> None:
    """Import what the commands import, so that a fork has it; no thread is begun."""
    import av  # noqa: F401
    import torch

    torch.set_num_threads(1)
    import mgdm_audio.cli.bench
    import mgdm_audio.cli.prepare
    import mgdm_audio.cli.priors
    import mgdm_audio.cli.report
    import mgdm_audio.cli.restore
    import mgdm_audio.cli.sample
    import mgdm_audio.cli.score
    import mgdm_audio.cli.separate
    import mgdm_audio.cli.train
    import mgdm_audio.data.mapping
    import mgdm_audio.data.slakh
    import mgdm_audio.evaluation.benchmark.bench
    import mgdm_audio.generation.generator
    import mgdm_audio.images.restorer
    import mgdm_audio.priors.convert_msdm
    import mgdm_audio.priors.images
    import mgdm_audio.report
    import mgdm_audio.training.run  # noqa: F401
