"""Jobs in processes of their own."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

from mgdm_audio.errors import UserError

T = TypeVar("T")


def run_jobs(jobs: Mapping[str, Callable[[], T]], nj: int) -> Iterator[tuple[str, T]]:
    """(name, result) of each job in their order, ``nj`` at a time; with 1 in this process.

    Jobs must be picklable for more than 1, say partials of functions of a module. What a job raises
    is raised here when its turn comes, and those that have not begun are dropped. Raises UserError
    where a process was killed.
    """
    if nj == 1:
        yield from ((name, job()) for name, job in jobs.items())
        return
    # Fresh processes: a fork of one with threads may hang.
    with ProcessPoolExecutor(min(nj, len(jobs)), get_context("spawn"), _begin) as pool:
        futures = {name: pool.submit(job) for name, job in jobs.items()}
        try:
            for name, future in futures.items():
                yield name, future.result()
        except BrokenProcessPool:
            raise UserError(
                f"{name}: a process was killed, perhaps for want of memory; lower --nj"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """Ctrl-C ends a worker, and so does its parent's end: it would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
