"""Text and JSON from files of our own: what else a file may be is an OSError or a ValueError."""

import json
import math
import stat
from pathlib import Path
from typing import Any

LARGEST = 1 << 28  # bytes; an uncertainty.json of the longest track has some 20 million
_INT = 2**63  # whole numbers are below it: tensors and floats take no larger ones


def read_bytes(path: Path) -> bytes:
    """Returns the bytes of a regular file of at most ``LARGEST``: it does not wait for a pipe.

    Raises OSError, and ValueError where it is none of those.
    """
    with open(require_regular(path), "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    return data


def require_regular(path: Path) -> Path:
    """ValueError for a folder, a pipe or a device, OSError where there is nothing."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("no regular file")
    return path


def read_json(path: Path) -> Any:
    """The value in a file. Raises OSError, and ValueError for what is no JSON, see ``parse``."""
    return parse(read_bytes(path))


def parse(text: str | bytes) -> Any:
    """A value of JSON in UTF-8 with finite numbers. Raises ValueError, for deep nesting too."""
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode(),
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the pairs as a dictionary. Raises ValueError for a key that is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:40]!r} is there twice")
    return found


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large")
    return value


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -_INT <= (value := int(digits)) < _INT:
        raise ValueError(f"{digits[:20]}... is too large")
    return value
