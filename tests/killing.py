"""A process that is killed at every moment at which it touches a folder, or finds the disk full."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

MOMENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}
KILLED = 9


def _run(work: Callable[[], object], folder: Path, moment: int) -> int:
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        paths = [os.fsdecode(a) for a in arguments[:2] if isinstance(a, str | bytes | os.PathLike)]
        if event in MOMENTS and any(path.startswith(str(folder)) for path in paths):
            seen += 1
            if seen == moment:
                os._exit(KILLED)  # no clean-up of any kind, as by SIGKILL

    torch.set_num_threads(1)  # the threads of the parent are not there
    sys.addaudithook(hook)
    work()
    return 0


def killed_at_every_moment(
    work: Callable[[], object], folder: Path, prepare: Callable[[], object] = lambda: None
) -> Iterator[int]:
    """Yield after each kill, the first moment first, and once more when ``work`` was not killed.

    ``prepare`` is called before each. ``work`` runs in a fork: what it does in memory is lost.
    """
    moment, code = 0, KILLED
    while code == KILLED:
        moment += 1
        prepare()
        process = os.fork()
        if not process:
            code = 1
            try:
                code = _run(work, folder, moment)
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert code in (0, KILLED), "work failed"
        yield moment
    assert moment > 1, "work touched nothing"


def full_disk(after: int, calls: list[int]) -> Callable[[int], None]:
    """An ``os.fsync`` that finds the disk full from call number ``after`` on; ``calls`` counts."""
    calls[:] = [0]

    def fsync(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fsync


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders of a writer, anywhere below."""
    return [str(p.relative_to(folder)) for p in folder.rglob("*") if p.name.endswith(".partial")]
