"""The limits of the server, which hold for every client."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mgdm_audio.errors import UserError


@dataclass(frozen=True)
class Limits:
    """The limits are printed when the server starts."""

    megabytes: float = 500.0  # of a file
    sound_minutes: float = 180.0  # of the sound in a file, which may be packed
    minutes: float = 60.0  # of work on a file
    waiting: int = 20  # files that are not over
    kept: int = 20  # files that are over; the oldest go
    connections: int = 64
    stall: float = 30.0  # seconds in which the other side of a connection must do something
    upload: float = 600.0  # seconds in which a file must have arrived
    free_gigabytes: float = 2.0  # of the disk that are never taken

    def __str__(self) -> str:
        return (
            f"limits: {self.megabytes:g} MB and {self.sound_minutes:g} minutes of sound a file, "
            f"{self.minutes:g} minutes of work on it, {self.waiting} files that wait, {self.kept} "
            f"that are kept, {self.connections} connections, {self.upload:g} s for a file to "
            f"arrive, {self.stall:g} s without a byte, {self.free_gigabytes:g} GB of disk left free"
        )

    def require_disk(self, folder: Path, wanted: float = 0) -> None:
        """Raises UserError unless ``wanted`` bytes can be written to ``folder``."""
        free = shutil.disk_usage(folder).free
        if wanted + self.free_gigabytes * 1e9 > free:
            raise UserError(
                f"{wanted / 1e9:.1f} GB of temporary files are needed, and {self.free_gigabytes:g} "
                f"GB are to stay free, of {free / 1e9:.1f} GB; free some, or let TMPDIR name "
                "another disk"
            )


@contextmanager
def private_room() -> Iterator[Path]:
    """Makes a temporary folder that no other user can read or replace.

    It is removed when the block ends. Raises UserError where other users may rename
    entries of the folder for temporary files.
    """
    place = Path(tempfile.gettempdir())
    if hasattr(os, "getuid"):
        there = place.stat()
        others = there.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not there.st_mode & stat.S_ISVTX
        if others or there.st_uid not in (0, os.getuid()):
            raise UserError(
                f"{place}: other users can rename what lies in it; let TMPDIR name a folder of "
                "your own"
            )
    with tempfile.TemporaryDirectory(prefix="mgdm-audio-", ignore_cleanup_errors=True) as room:
        yield Path(room)
