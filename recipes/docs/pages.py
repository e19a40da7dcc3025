"""Puts the pages of the documentation together in one folder, for mkdocs.

    python pages.py FOLDER

The documents keep their places in the repository, so that their links to each other and to files
beside them hold in both; what they link to is copied too. The reference is generated beside them.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import reference

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "recipes/docs/*.md",
    "egs/**/README.md",
    "egs/**/RESULTS.md",
    "mgdm_audio/pretrained/**/README.md",
)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def documents(root: Path = ROOT) -> list[Path]:
    """The pages that are written by hand, relative to ``root``."""
    return sorted({path.relative_to(root) for name in DOCUMENTS for path in root.glob(name)})


def linked(page: Path, root: Path = ROOT) -> set[Path]:
    """The files that a page links to, relative to ``root``; a link to none is left to mkdocs."""
    found = {
        (root / page.parent / link).resolve() for link in LINK.findall((root / page).read_text())
    }
    return {path.relative_to(root) for path in found if path.is_file() and root in path.parents}


def assemble(folder: Path) -> None:
    """Write all pages into ``folder``, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = documents()
    for path in {*pages, *(file for page in pages for file in linked(page))}:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
    (folder / "reference").mkdir()
    for name, write in reference.PAGES.items():
        (folder / "reference" / f"{name}.md").write_text(write())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: give the folder for the pages")
    assemble(Path(sys.argv[1]))
