"""Jobs in processes of their own."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from typing import TypeVar

from mgdm_audio.errors import UserError
from mgdm_audio.registry import import_modules, imported_modules

T = TypeVar("T")


def run_jobs(jobs: Mapping[str, Callable[[], T]], nj: int) -> Iterator[tuple[str, T]]:
    """(name, result) of each job in their order, ``nj`` at a time; with 1 in this process.

    Jobs must be picklable for more than 1, say partials of functions of a module. What a job raises
    is raised here when its turn comes, and those that have not begun are dropped. Raises UserError
    where a process was killed. At Ctrl-C jobs that are under way are interrupted, and clean up.
    """
    if nj == 1:
        yield from ((name, job()) for name, job in jobs.items())
        return
    # Fresh processes: a fork of one with threads may hang.
    with ProcessPoolExecutor(min(nj, len(jobs)), get_context("spawn"), _begin) as pool:
        modules = imported_modules()
        with _interrupts_later():
            futures = {name: pool.submit(partial(_run, job, modules)) for name, job in jobs.items()}
        try:
            for name, future in futures.items():
                yield name, future.result()
        except BrokenProcessPool:
            raise UserError(
                f"{name}: a process was killed, perhaps for want of memory; lower --nj"
            ) from None
        except SystemExit:
            raise KeyboardInterrupt from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_busy = _stopped = False  # of this process, a worker


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Processes begun here take Ctrl-C when they are ready for it: not amid their imports."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """A worker ends with its parent: it would wait for work for ever."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _interrupt(number: int, frame: object) -> None:
    """Ctrl-C ends a job so that it cleans up, and those that are handed out already."""
    global _stopped
    _stopped = True
    if _busy:
        sys.exit(128 + number)


def _run(job: Callable[[], T], modules: Sequence[str]) -> T:
    """``modules``: those that the parent was asked to import, which register what jobs name."""
    global _busy
    import_modules(modules)  # an exit amid it would be an error of the module
    try:
        _busy = True
        if _stopped:
            sys.exit(128 + signal.SIGINT)
        return job()
    finally:
        _busy = False


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
