"""SHA-256 of values and files: what a stored result was made from."""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from mgdm_audio.errors import UserError


def hash_json(value: Any) -> str:
    """Of plain JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Of a file's bytes. Raises UserError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def hash_own_code(*values: Any) -> str | None:
    """Of the files that define those classes and functions that are none of this package's; None
    where there are none. What these files import is left out."""
    parts = [value.func if isinstance(value, partial) else value for value in values]
    modules = {str(getattr(part, "__module__", "")) for part in parts}
    own = [name for name in modules if name.partition(".")[0] != __name__.partition(".")[0]]
    files = {str(getattr(sys.modules.get(name), "__file__", None)) for name in own}
    hashes = sorted(hash_file(Path(file)) for file in files if Path(file).is_file())
    return hash_json(hashes) if hashes else None
