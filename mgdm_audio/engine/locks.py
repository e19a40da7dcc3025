"""A folder for one process at a time."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from mgdm_audio.atomic import writing
from mgdm_audio.errors import UserError

LOCK = ".lock"
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def lock(folder: Path, doing: str) -> Iterator[None]:
    """Keep every other process that asks for it out of ``folder``, which is made, for the block.

    The file ``.lock`` holds the number of the process while it has the lock. The system takes the
    lock from a process that ends, however it ends. A file system that knows no locks keeps nobody
    out. Raises UserError, with that number and what the process is ``doing``, where another has the
    lock, and where ``folder`` cannot be written to.
    """
    path = folder / LOCK
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        while (file := _taken(path, doing)) is None:
            pass
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is locked: it is nobody else's


def _taken(path: Path, doing: str) -> TextIO | None:
    """Returns the locked file, or None where its holder removed it before it could be locked."""
    import fcntl  # POSIX alone has it

    file = open(path, "a+")  # noqa: SIM115  (the caller closes it: the lock is that of the opening)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read(300).strip() or "unknown"
        file.close()
        raise UserError(
            f"{path.parent}: process {holder} is {doing}; wait for it, or choose another folder"
        ) from None
    except OSError as error:
        if error.errno not in _UNKNOWN:
            file.close()
            raise
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
    file.close()
    return None
