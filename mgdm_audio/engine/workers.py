"""Threads that draw side by side on a CPU, each with its share of torch's own threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import torch

Result = TypeVar("Result")


class Workers:
    """``count`` threads; with one, ``submit`` calls at once, in the caller's thread.

    torch gives up Python's lock while it computes. An operation that is split over threads ends
    when the last of them does, so that one busy core stops them all; side by side they do not wait.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, function: Callable[..., Result], *arguments: object) -> Future[Result]:
        """``function(*arguments)``, whose exception is raised by the future's ``result``."""
        if self.count > 1:
            if self._pool is None:
                share = max(1, torch.get_num_threads() // self.count)
                self._pool = ThreadPoolExecutor(
                    self.count, initializer=torch.set_num_threads, initargs=(share,)
                )
            return self._pool.submit(function, *arguments)
        future: Future[Result] = Future()
        future.set_result(function(*arguments))
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """What is under way is awaited, and what waits is not begun."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
