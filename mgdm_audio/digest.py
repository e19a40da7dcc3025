"""SHA-256 hashes of values and files, which identify the inputs of a stored result."""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from mgdm_audio.errors import UserError


def hash_json(value: Any) -> str:
    """Returns the hash of JSON values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Returns the hash of a file's bytes. Raises UserError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


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
