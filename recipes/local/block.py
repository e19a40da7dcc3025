"""A generated block in a Markdown file that is otherwise written by hand."""

from pathlib import Path

from mgdm_audio.atomic import write_text


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
