"""Files and folders that are written whole or not at all, whatever stops the program."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mgdm_audio.errors import UserError


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
    partial = _partial(path)
    try:
        partial.mkdir(parents=True)
        yield partial
        os.rename(partial, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_new(path: str | Path) -> None:
    """UserError where something of that name exists."""
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; choose another place, or remove it first")


def write_text(path: str | Path, text: str) -> None:
    """``write_bytes`` of ``text`` in UTF-8."""
    write_bytes(path, text.encode())


def _partial(path: Path) -> Path:
    # A short random name: path.name plus a suffix could pass the file system's limit of 255 bytes.
    return path.parent / f".{secrets.token_hex(8)}.partial"


def _unwritable(path: Path, error: OSError | ValueError) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{path}: cannot be written ({reason}); choose another place")
