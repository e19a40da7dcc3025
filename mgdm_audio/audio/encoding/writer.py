"""What the writers of sound files have in common: how they end, and a full disk's error."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import soundfile
from torch import Tensor


class Writer(ABC):
    """``write`` takes blocks of samples; the file at ``path`` is whole after ``close``."""

    path: Path

    @abstractmethod
    def write(self, samples: Tensor) -> None:
        """Writes the samples that follow. Raises OSError where the disk does not take them."""

    @abstractmethod
    def close(self) -> None:
        """Ends the file. Raises OSError where it cannot be written whole."""

    @abstractmethod
    def abandon(self) -> None:
        """Closes the file as it is, after an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


@contextmanager
def by_libsndfile(path: Path) -> Iterator[None]:
    """Raises what libsndfile fails with while it writes as OSError: it loses the disk's reason."""
    try:
        yield
    except (soundfile.LibsndfileError, AssertionError):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
