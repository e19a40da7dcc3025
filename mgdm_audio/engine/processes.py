"""Runs jobs in parallel processes."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from typing import TypeVar

from tqdm import tqdm

from mgdm_audio.engine.cluster import as_they_end, find_executor
from mgdm_audio.errors import UserError
from mgdm_audio.registry import import_modules, imported_modules

T = TypeVar("T")


def run_jobs(
    jobs: Mapping[str, Callable[[], T]], nj: int, executor: str = "local"
) -> Iterator[tuple[str, T]]:
    """Yields (name, result) of each job in order; ``nj`` jobs run at a time, one in this process.

    With ``nj`` above 1 jobs must be picklable, for example partials of a module's functions. An
    exception of a job is raised here in its turn, and jobs that have not begun are cancelled.
    Raises UserError where a process was killed. Ctrl-C interrupts the running jobs, which clean up.
    ``executor``: a cluster instead, see ``find_executor``, on which ``nj`` has no effect.
    """
    if (cluster := find_executor(executor)) is not None:
        with closing(as_they_end(_call, jobs, cluster, say=_said)) as results:
            yield from _in_order(jobs, results)
        return
    if nj == 1:
        yield from ((name, job()) for name, job in jobs.items())
        return
    # Spawned, because a fork of a process with threads may hang.
    with ProcessPoolExecutor(min(nj, len(jobs)), get_context("spawn"), _begin) as pool:
        modules = imported_modules()
        with _interrupts_later():
            futures = {name: pool.submit(partial(_run, job, modules)) for name, job in jobs.items()}
        try:
            for name, future in futures.items():
                yield name, future.result()
        except BrokenProcessPool:
            raise UserError(
                f"{name}: a process was killed, perhaps because memory ran out; lower --nj"
            ) from None
        except SystemExit:
            raise KeyboardInterrupt from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _call(job: Callable[[], T]) -> T:
    return job()


def _said(line: str) -> None:
    tqdm.write(line, file=sys.stderr)  # past a progress bar


def _in_order(
    names: Iterable[str], results: Iterator[tuple[str, T | Exception]]
) -> Iterator[tuple[str, T]]:
    early: dict[str, T | Exception] = {}
    for name in names:
        while name not in early:
            early.update([next(results)])
        result = early.pop(name)
        if isinstance(result, Exception):
            raise result
        yield name, result


_busy = _stopped = False  # the state of this worker process


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Blocks Ctrl-C in processes started here until they unblock it, after their imports."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Prepares a worker to end with its parent, without which it would wait for jobs forever."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _interrupt(number: int, frame: object) -> None:
    """Ends the running job at Ctrl-C so that it cleans up, and the jobs queued for this worker."""
    global _stopped
    _stopped = True
    if _busy:
        sys.exit(128 + number)


def _run(job: Callable[[], T], modules: Sequence[str]) -> T:
    """Runs ``job`` after importing ``modules``, which register names that the job may use."""
    global _busy
    import_modules(modules)  # not interrupted: an exit here would count as the module's error
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
