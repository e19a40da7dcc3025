"""SHA-256 hashes of values and files, which identify the inputs of a stored result."""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mgdm_audio.errors import UserError
from mgdm_audio.reading import require_regular


def hash_json(value: Any) -> str:
    """Returns the hash of JSON values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Returns the hash of a file's bytes. Raises UserError for what is no file, or unreadable."""
    try:
        with open(require_regular(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason})") from None


@contextmanager
def unchanged(files: Iterable[Path]) -> Iterator[None]:
    """A block that reads ``files`` and hashes them: the hashes are those of what was read.

    Raises UserError where one was written to, or another took its place, meanwhile.
    """
    before = {path: _state(path) for path in files}
    yield
    for path, state in before.items():
        if _state(path) != state:
            raise UserError(f"{path}: changed while it was read; run again when it is done")


def _state(path: Path) -> tuple[int, int, int, int] | None:
    """What a file of that name has of its own, and another that takes its place has not."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def hash_own_code(*values: Any) -> str | None:
    """Returns the hash of the files that define classes and functions outside this package.

    It is None if there are none. Files that these import are not included.
    """
    parts = [value.func if isinstance(value, partial) else value for value in values]
    modules = {str(getattr(part, "__module__", "")) for part in parts}
    own = [name for name in modules if name.partition(".")[0] != __name__.partition(".")[0]]
    files = {str(getattr(sys.modules.get(name), "__file__", None)) for name in own}
    hashes = sorted(hash_file(Path(file)) for file in files if Path(file).is_file())
    return hash_json(hashes) if hashes else None
