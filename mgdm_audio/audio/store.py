"""Waveforms that are written from front to back and read anywhere: in memory or on disk."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor

from mgdm_audio.audio.resampling import resample_span


class Store(Protocol):
    """Waveforms ``[*shape, time]``."""

    shape: tuple[int, ...]
    time: int

    def append(self, x: Tensor) -> None:
        """``[*shape, any]``, which follows what is there. Raises ValueError for another shape."""
        ...

    def read(self, start: int, stop: int) -> Tensor:
        """``[*shape, stop - start]``, not to be written to."""
        ...

    def close(self) -> None:
        """Give the memory or the disk space back."""
        ...


class Held:
    """A store in memory."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.time = shape, 0
        self._parts: list[Tensor] = []
        self._lock = Lock()  # several readers must not each join the parts

    def append(self, x: Tensor) -> None:
        _require_shape(x, self.shape)
        self._parts.append(x.cpu())
        self.time += x.shape[-1]

    def read(self, start: int, stop: int) -> Tensor:
        with self._lock:
            if len(self._parts) > 1:
                self._parts = [torch.cat(self._parts, -1)]
            whole = self._parts[0]
        return whole[..., start:stop]

    def close(self) -> None:
        self._parts = []


class Spool:
    """A store of float32 in an unnamed temporary file, which is gone whatever ends the program.

    ``folder``: the disk it takes 4 bytes a number of. Raises OSError where that is full.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path) -> None:
        self.shape, self.time = shape, 0
        self._width = 4 * math.prod(shape)  # bytes of a moment
        self._lock = Lock()  # of the place in the file, for several readers
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by ``close``)

    def append(self, x: Tensor) -> None:
        _require_shape(x, self.shape)
        if not x.shape[-1]:
            return
        data = x.detach().cpu().float().movedim(-1, 0).contiguous()
        self._file.seek(self.time * self._width)
        self._file.write(_bytes(data))
        self.time += x.shape[-1]

    def read(self, start: int, stop: int) -> Tensor:
        if not 0 <= start <= stop <= self.time:
            raise ValueError(f"samples {start} to {stop} of {self.time}")
        data = torch.empty(stop - start, *self.shape)
        view = _bytes(data)
        with self._lock:
            self._file.seek(start * self._width)
            count = self._file.readinto(view)  # type: ignore[attr-defined]
        if count != len(view):
            raise OSError(5, "a temporary file was cut short")
        return data.movedim(0, -1)

    def close(self) -> None:
        self._file.close()


class Sums:
    """Sums over stems of parts [part, stem, channel, time], as they are read.

    ``groups``: numbers of the stems of each sum. ``rest``: what the stems in no group are, as the
    ``mixture`` less all others, comes last.
    """

    def __init__(
        self, parts: Store, mixture: Store, groups: Sequence[Sequence[int]], rest: bool
    ) -> None:
        self.parts, self.mixture, self.groups, self.rest = parts, mixture, groups, rest
        self.shape = (parts.shape[0], len(groups) + rest, *parts.shape[2:])
        self.time = parts.time

    def append(self, x: Tensor) -> None:
        raise TypeError("a view of other stores is not written to")

    def read(self, start: int, stop: int) -> Tensor:
        stems = self.parts.read(start, stop)
        found = [stems[:, list(group)].sum(1) for group in self.groups]
        if self.rest:
            taken = sorted({index for group in self.groups for index in group})
            found.append(self.mixture.read(start, stop) - stems[:, taken].sum(1))
        return torch.stack(found, 1)

    def close(self) -> None:
        self.parts.close()


class Resampled:
    """A store at another sample rate, from ``rate`` to ``to`` Hz, as it is read."""

    def __init__(self, source: Store, rate: int, to: int) -> None:
        self.source, self.rate, self.to = source, rate, to
        self.shape, self.time = source.shape, -(-source.time * to // rate)

    def append(self, x: Tensor) -> None:
        raise TypeError("a view of another store is not written to")

    def read(self, start: int, stop: int) -> Tensor:
        return resample_span(self.source.read, self.source.time, self.rate, self.to, start, stop)

    def close(self) -> None:
        self.source.close()


def _require_shape(x: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape[:-1]) != shape:
        raise ValueError(f"[*{list(shape)}, time] is stored here, not {list(x.shape)}")


def _bytes(data: Tensor) -> memoryview:
    """A contiguous tensor's memory."""
    return data.numpy().reshape(-1).view("uint8").data
