"""Files and folders that are written whole or not at all, whatever stops the program.

There is one mechanism for both. What is new is written under a hidden name beside the old, is made
to reach the disk, and then takes the place of the old in one call to the system. A hidden name says
which process made it: those of processes that have ended are removed by whatever writes to the same
folder next. No reader takes a hidden name for data.
"""

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from mgdm_audio.errors import UserError

FORGOTTEN = 7 * 24 * 3600  # seconds without a change, after which another machine's work is stale
_PARTIAL, _REPLACED = ".partial", ".replaced.partial"
_NAME = re.compile(r"\.([0-9a-f]+)-(\d+)-(\d+)-[0-9a-f]+(?:\.replaced)?\.partial")
_FORMER = re.compile(r"\.(?:[0-9a-f]{16}|[0-9a-f]+-[0-9a-f]+-\d+-[0-9a-f]+)\.partial")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` through a temporary name in the same folder, then rename.

    A reader sees the old file or the new one, never a part of it; a killed writer leaves at most a
    hidden ``.*.partial``. Raises UserError where the folder is missing or cannot be written to.
    """
    write_by(path, lambda partial: partial.write_bytes(data))


def write_by(path: str | Path, write: Callable[[Path], object]) -> None:
    """``write_bytes`` of what ``write`` puts into the temporary file that it is given."""
    path = Path(path)
    with writing(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            # A rename would put a file in the place of a device, as root even of /dev/null.
            raise UserError(f"{path}: is no regular file; choose another place")
        sweep(path.parent)
        partial = path.parent / _name()
        try:
            # "x": never through somebody else's file or link. The usual umask applies.
            open(partial, "xb").close()
            mode = partial.stat().st_mode
            write(partial)
            partial.chmod(mode)  # a library may have put a private file in its place
            _sync(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """``write_bytes`` of ``text`` in UTF-8.

    Bytes of a file's name that are no UTF-8 are written as \\udcXX. In a string of JSON that stands
    for what the name has in Python, so that it is read again as it was.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A hidden folder to write into, which becomes ``path`` when the block ends well, else goes.

    Raises UserError where ``path`` exists already or cannot be made.
    """
    path = Path(path)
    require_new(path)
    with writing(path), room(path.parent) as partial:
        yield partial
        sync_all(partial)
        os.rename(partial, path)


@contextmanager
def replaced_folder(path: str | Path, own: Collection[str] | None = None) -> Iterator[Path]:
    """A hidden folder to write into, which takes the place of ``path`` when the block ends well.

    A reader finds the old folder or the new one. ``own``: names of files and folders that belong
    to the old one and go with it, all others are carried over; None: nothing is. Raises UserError
    where ``path`` cannot be written.
    """
    path = Path(path)
    with writing(path):
        path = path.resolve()  # a link stays a link
        with room(path.parent) as partial:
            yield partial
            if own is not None:
                _carry_over(path, partial, own)
            sync_all(partial)
            _take_place(partial, path)


@contextmanager
def room(parent: Path) -> Iterator[Path]:
    """A hidden folder in ``parent`` to write into; what is left of it when the block ends goes.

    Each has a name of its own, so that processes at work in ``parent`` at a time do not meet. What
    killed ones left there is removed first. Raises OSError.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    here = parent / _name()
    try:
        here.mkdir()
        yield here
    finally:
        try:
            shutil.rmtree(here, ignore_errors=True)
        except KeyboardInterrupt:  # Ctrl-C meanwhile: the folder is still removed
            shutil.rmtree(here, ignore_errors=True)
            raise


def sweep(parent: Path) -> None:
    """Remove the hidden files and folders in ``parent`` that no process works on any more.

    Those of processes of this machine that have ended go at once. Whether one of another machine,
    which shares the folder, has ended cannot be seen: what it left goes a week after its last
    change, and so does what an earlier version left, whose names do not tell. A folder that a
    process was about to replace when it was killed gets its name back.
    """
    with suppress(OSError):  # no such folder, or one that is not to be read
        for name in os.listdir(parent):
            if match := _NAME.fullmatch(name):
                stale = _is_stale(parent / name, *match.groups())
            else:
                stale = bool(_FORMER.fullmatch(name)) and _is_forgotten(parent / name)
            if stale and name.endswith(_REPLACED):
                _put_back(parent / name)
            if stale:
                _remove(parent / name)


def recover(path: Path) -> None:
    """Put the folder ``path`` back, if a process was killed while it replaced it.

    Where the file system cannot exchange two folders in one call (``_exchange``), there is a moment
    at which the old one has another name and the new one not yet its own.
    """
    if not path.exists():
        sweep(path.parent)


def is_taken(error: OSError) -> bool:
    """Returns whether a folder could not be moved for one that is there and holds something."""
    return error.errno in (errno.ENOTEMPTY, errno.EEXIST)


def require_new(path: str | Path) -> None:
    """Raises UserError where something of that name exists."""
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; choose another place, or remove it first")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes ``path``: what the system refuses is raised as UserError, in one line."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: folder {path.parent} does not exist; make it first") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        reason = getattr(error, "strerror", None) or error
        remedy = "choose another place"
        if getattr(error, "errno", None) in _NO_ROOM:
            remedy = f"make room, or {remedy}"
        raise UserError(f"{path}: cannot be written ({reason}); {remedy}") from None


def sync_all(folder: Path) -> None:
    """Make every file below ``folder`` reach the disk. Raises OSError.

    Else a power cut may keep the name that the folder is given next without what is in it.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            _sync(path)


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _take_place(new: Path, path: Path) -> None:
    """Move the folder ``new`` to ``path``; what was there is then ``new``, or gone."""
    while True:
        try:
            os.rename(new, path)
            return
        except OSError as error:
            if not is_taken(error):
                raise
        with suppress(FileNotFoundError):  # it went meanwhile
            _exchange(new, path)
            return


def _exchange(new: Path, path: Path) -> None:
    """Swap the names of two folders, in one call where the system has it. Raises OSError.

    Linux has renameat2(2) and macOS renamex_np(2), on most of their file systems. Elsewhere there
    are two calls, and ``recover`` for who is killed in between.
    """
    try:
        _exchange_at_once(os.fsencode(new), os.fsencode(path))
    except NotImplementedError:
        aside = path.parent / _name(_REPLACED)
        aside.mkdir()
        try:
            os.rename(path, aside / path.name)
            os.rename(new, path)
        finally:
            _put_back(aside)
            _remove(aside)


def _exchange_at_once(one: bytes, other: bytes) -> None:
    """NotImplementedError where the system, or the file system, cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(one, other, 2)  # RENAME_SWAP
    elif hasattr(library, "renameat2"):
        failed = library.renameat2(-100, one, -100, other, 2)  # AT_FDCWD, RENAME_EXCHANGE
    else:
        raise NotImplementedError
    code = ctypes.get_errno()
    if failed and code in _NO_EXCHANGE:
        raise NotImplementedError
    if failed:
        raise OSError(code, os.strerror(code), os.fsdecode(other))


def _carry_over(old: Path, new: Path, own: Collection[str]) -> None:
    """Give ``new`` what ``old`` holds beside its ``own`` files and ``new`` has not."""
    for path in old.iterdir() if old.is_dir() else ():
        target = new / path.name
        hidden = _NAME.fullmatch(path.name) or _FORMER.fullmatch(path.name)
        if path.name in own or hidden or os.path.lexists(target):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True)
        else:
            shutil.copy2(path, target, follow_symlinks=False)


def _name(end: str = _PARTIAL) -> str:
    # Short and random: a file's own name plus a suffix could pass the limit of 255 bytes.
    process = os.getpid()
    return f".{_host()}-{process}-{_born(process) or 0}-{secrets.token_hex(4)}{end}"


@cache
def _host() -> str:
    """Returns a name of this machine and container, within which numbers of processes agree."""
    name = socket.gethostname()
    with suppress(OSError):  # Linux alone has it
        name += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]


def _born(process: int) -> int | None:
    """When it was started, in ticks of the system, 0 where that is unknown; None: it has ended.

    The numbers of processes are used again, in containers soon: this tells two of one number apart.
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):  # it is somebody else's, or no number of a process
        pass
    try:  # Linux: the 22nd word, of which the second is a name in brackets that may hold spaces
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _is_stale(path: Path, host: str, process: str, born: str) -> bool:
    if host != _host():
        return _is_forgotten(path)
    now = _born(int(process))
    return now is None or (now != int(born) and 0 not in (now, int(born)))


def _is_forgotten(folder: Path) -> bool:
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # it went meanwhile
            newest = max(newest, path.stat().st_mtime)
    return newest < time.time() - FORGOTTEN


def _put_back(aside: Path) -> None:
    for old in aside.iterdir():
        if not os.path.lexists(aside.parent / old.name):
            os.rename(old, aside.parent / old.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
