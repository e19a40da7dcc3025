"""What runs on a node of a cluster: a process that does one job after another, see ``cluster``."""

import ctypes
import os
import socket
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from mgdm_audio import errors
from mgdm_audio.errors import SoundWarning, UserError
from mgdm_audio.registry import import_modules
from mgdm_audio.version import __version__

T = TypeVar("T")
R = TypeVar("R")
GRACE = 10.0  # seconds to clean up in, after Ctrl-C


class Answer(Generic[R]):
    """The result of a job, and what a user should know of the files that it read."""

    def __init__(self, result: R, warnings: list[str]) -> None:
        self.result, self.warnings = result, warnings


def shown(answer: Any) -> Any:
    """Returns what an answer holds, after giving its warnings in this process."""
    if not isinstance(answer, Answer):
        return answer
    for line in answer.warnings:
        warnings.showwarning(SoundWarning(line), SoundWarning, __file__, 0)
    return answer.result


class Worker(Generic[T, R]):
    """Does jobs by ``work``; its methods are called from several threads."""

    def __init__(self, sent: tuple[Callable[[T], R], Sequence[str]]) -> None:
        self._work, self._modules = sent
        self._thread: int | None = None  # which runs a job
        self._free = threading.Event()
        self._free.set()

    def ready(self, folder: str, threads: int, has_gpu: bool, version: str) -> str:
        """Returns the name of this node, whose lines of errors have it from now on.

        ``folder``: the working directory of all paths. Raises UserError where this node has no such
        folder, has another version of this package, or lacks a module.
        """
        node = socket.gethostname()
        if version != __version__:
            raise UserError(
                f"node {node}: has mgdm_audio {__version__}, not {version}; install the same"
            )
        if not Path(folder).is_dir():
            raise UserError(
                f"node {node}: has no folder {folder}; run the command in one that all nodes share"
            )
        os.chdir(folder)
        if not has_gpu:  # else all workers of a node would take its first GPU
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        import_modules(self._modules)
        errors.place = f"on node {node}"
        self._threads = threads
        return node

    def run(self, item: T) -> Answer[R]:
        """Returns the result of a job. Raises what the job does."""
        torch.set_num_threads(self._threads)  # of this thread of Python
        self._free.clear()
        self._thread = threading.get_ident()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", SoundWarning)
                result = self._work(item)
        finally:
            self._thread = None
            self._free.set()
        said = [str(each.message) for each in caught if issubclass(each.category, SoundWarning)]
        return Answer(result, said)

    def stop(self) -> None:
        """Interrupts the job as Ctrl-C would, and waits a while for it to clean up."""
        if (thread := self._thread) is not None:
            interrupt = ctypes.pythonapi.PyThreadState_SetAsyncExc
            interrupt(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
            self._free.wait(GRACE)
