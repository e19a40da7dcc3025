"""Files and folders that are written whole or not at all, whatever stops the program."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mgdm_audio.errors import UserError

FORGOTTEN = 7 * 24 * 3600  # seconds without a change, after which another machine's room is stale


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` through a temporary name in the same folder, then rename.

    A reader sees the old file or the new one, never a part of it; a killed writer leaves at most a
    hidden ``.*.partial``. Raises UserError where the folder is missing or cannot be written to.
    """
    write_by(path, lambda partial: partial.write_bytes(data))


def write_by(path: str | Path, write: Callable[[Path], object]) -> None:
    """``write_bytes`` of what ``write`` puts into the temporary file that it is given."""
    path = Path(path)
    partial = _partial(path)
    try:
        try:
            # "x": never through somebody else's file or link. The usual umask applies.
            open(partial, "xb").close()
            mode = partial.stat().st_mode
            write(partial)
            partial.chmod(mode)  # a library may have put a private file in its place
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())  # else a power cut may keep the new name without the data
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except FileNotFoundError:
        raise UserError(f"{path}: folder {path.parent} does not exist; make it first") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        raise _unwritable(path, error) from None


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A hidden folder to write into, which becomes ``path`` when the block ends well, else goes.

    Raises UserError where ``path`` exists already or cannot be made.
    """
    path = Path(path)
    require_new(path)
    try:
        with room(path.parent, path.name) as partial:
            yield partial
            os.rename(partial, path)
    except OSError as error:
        raise _unwritable(path, error) from None


@contextmanager
def room(parent: Path, purpose: str) -> Iterator[Path]:
    """A hidden folder in ``parent`` to write into; what is left of it when the block ends goes.

    Each has a name of its own, so that processes that work for the same ``purpose`` at a time do
    not meet. Those that killed ones left for it are removed first. Raises OSError.
    """
    sweep(parent, purpose)
    here = parent / f".{_key(purpose)}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.partial"
    try:
        here.mkdir(parents=True)
        yield here
    finally:
        shutil.rmtree(here, ignore_errors=True)


def sweep(parent: Path, purpose: str) -> None:
    """Remove the rooms for ``purpose`` in ``parent`` that nobody works in any more.

    Those of processes of this machine that have ended go at once. Whether one of another machine,
    which shares the folder, has ended cannot be seen: its rooms go a week after their last change.
    """
    for path in parent.glob(f".{_key(purpose)}-*.partial"):
        match = re.fullmatch(r"\.[0-9a-f]+-([0-9a-f]+)-(\d+)-[0-9a-f]+\.partial", path.name)
        if match and (_ended(int(match[2])) if match[1] == _host() else _is_forgotten(path)):
            shutil.rmtree(path, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Move the folder ``new`` to ``path``; what was there goes, another process's too. OSError."""
    while True:
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
        try:
            os.replace(new, path)
            return
        except OSError as error:
            if not is_taken(error):
                raise


def is_taken(error: OSError) -> bool:
    """Whether a folder could not be moved for one that is there and holds something."""
    return error.errno in (errno.ENOTEMPTY, errno.EEXIST)


def require_new(path: str | Path) -> None:
    """UserError where something of that name exists."""
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; choose another place, or remove it first")


def write_text(path: str | Path, text: str) -> None:
    """``write_bytes`` of ``text`` in UTF-8.

    Bytes of a file's name that are no UTF-8 are written as \\udcXX. In a string of JSON that stands
    for what the name has in Python, so that it is read again as it was.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def _partial(path: Path) -> Path:
    # A short random name: path.name plus a suffix could pass the file system's limit of 255 bytes.
    return path.parent / f".{secrets.token_hex(8)}.partial"


def _key(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _host() -> str:
    """Where the numbers of processes mean the same: this machine, and this container on it."""
    name = socket.gethostname()
    with suppress(OSError):  # Linux alone has it
        name += os.readlink("/proc/self/ns/pid")
    return _key(name)[:8]


def _ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is somebody else's, or no number of a process
        return False
    return False


def _is_forgotten(folder: Path) -> bool:
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # it went meanwhile
            newest = max(newest, path.stat().st_mtime)
    return newest < time.time() - FORGOTTEN


def _unwritable(path: Path, error: OSError | ValueError) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{path}: cannot be written ({reason}); choose another place")
