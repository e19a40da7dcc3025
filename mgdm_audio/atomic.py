"""Files that are written whole or not at all, whatever stops the program."""

import os
import secrets
from pathlib import Path

from mgdm_audio.errors import UserError


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` through a temporary name in the same folder, then rename.

    A reader sees the old file or the new one, never a part of it; a killed writer leaves at most a
    hidden ``.*.partial``. Raises UserError where the folder is missing or cannot be written to.
    """
    path = Path(path)
    # A short random name: path.name plus a suffix could pass the file system's limit of 255 bytes.
    partial = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        try:
            # "x": never through somebody else's file or link. The usual umask applies.
            with open(partial, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may keep the new name without the data
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except FileNotFoundError:
        raise UserError(f"{path}: folder {path.parent} does not exist; make it first") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be written ({reason}); choose another place") from None


def write_text(path: str | Path, text: str) -> None:
    """``write_bytes`` of ``text`` in UTF-8."""
    write_bytes(path, text.encode())
