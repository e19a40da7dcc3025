"""SHA-256 of values and files: what a stored result was made from."""

import hashlib
import json
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
