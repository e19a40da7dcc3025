"""Waveforms on disk that are written from front to back and read anywhere."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor


class Spool:
    """[*shape, time] float32 in an unnamed temporary file, which is gone whatever ends the program.

    ``folder``: the disk it takes 4 bytes a number of. Raises OSError where that is full.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path) -> None:
        self.shape, self.time = shape, 0
        self._width = 4 * math.prod(shape)  # bytes of a moment
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by ``close``)

    def append(self, x: Tensor) -> None:
        """[*shape, any], which follows what is there."""
        if not x.shape[-1]:
            return
        data = x.detach().cpu().float().movedim(-1, 0).contiguous()
        self._file.seek(self.time * self._width)
        self._file.write(_bytes(data))
        self.time += x.shape[-1]

    def read(self, start: int, stop: int) -> Tensor:
        """[*shape, stop - start]"""
        if not 0 <= start <= stop <= self.time:
            raise ValueError(f"samples {start} to {stop} of {self.time}")
        data = torch.empty(stop - start, *self.shape)
        self._file.seek(start * self._width)
        view = _bytes(data)
        if self._file.readinto(view) != len(view):  # type: ignore[attr-defined]
            raise OSError(5, "a temporary file was cut short")
        return data.movedim(0, -1)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


def _bytes(data: Tensor) -> memoryview:
    """A contiguous tensor's memory."""
    return data.numpy().reshape(-1).view("uint8").data
