"""A table from JSON records, and the block for it in a Markdown file written by hand."""

import json
from pathlib import Path
from typing import Any

from mgdm_audio.atomic import write_text
from mgdm_audio.errors import UserError


def renew(path: Path, name: str, text: str) -> bool:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; False without them."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, opened, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        return False
    write_text(path, f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
    return True


def show(text: str, results: Path | None, name: str) -> None:
    """Print a table, and put it into its block of ``results`` where that has one."""
    print(f"\n{text}")
    if results is not None and renew(results, name, text):
        print(f"written: {results}")


def load(path: Path, remedy: str = "remove it") -> dict[str, Any]:
    """A record. Raises UserError where it cannot be read."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); {remedy}") from None
    return content
