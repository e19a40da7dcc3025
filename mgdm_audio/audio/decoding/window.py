"""Parts of a file, in another order or with other bytes between them, as a file of their own."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, BinaryIO, cast

Piece = bytes | tuple[int, int]  # bytes of our own, or of the file from one offset to another


def window(file: BinaryIO, pieces: Sequence[Piece]) -> BinaryIO:
    """What ``pieces`` of ``file`` hold, one after the other, as a file to read."""
    return cast(BinaryIO, Window(file, pieces))


class Window(io.RawIOBase):
    """See ``window``; ``file`` itself is left open. Of it nothing is held in memory."""

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        self._file = file
        self._pieces = [piece for piece in pieces if _length(piece)]
        self._ends = list(accumulate(_length(piece) for piece in self._pieces))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = self._ends[-1] if self._ends else 0
        self._at = max(
            0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: end}[whence]
        )
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As much as there is, up to the end: decoders take a short read for the end."""
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view):
            index = bisect_right(self._ends, self._at)
            if index == len(self._pieces):
                break
            piece = self._pieces[index]
            inside = self._at - (self._ends[index] - _length(piece))
            wanted = min(len(view) - done, self._ends[index] - self._at)
            if isinstance(piece, bytes):
                data = piece[inside : inside + wanted]
            else:
                self._file.seek(piece[0] + inside)
                data = self._file.read(wanted)
            if not data:  # the file became shorter
                break
            view[done : done + len(data)] = data
            done += len(data)
            self._at += len(data)
        return done


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
