"""The documents at the top agree with the package."""

import re
import tomllib
from pathlib import Path

import pytest

from mgdm_audio import __version__

ROOT = Path(__file__).parents[1]


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    changes = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert project["version"] == __version__ == changes[0]
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_paper_is_cited_alike_everywhere() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper = citation["preferred-citation"]
    readme = (ROOT / "README.md").read_text()
    assert citation["license"] == "Apache-2.0"
    assert f"{{{paper['title']}}}" in readme
    assert f"pages     = {{{paper['start']}--{paper['end']}}}" in readme
    bibtex = re.sub(r"\s+", " ", re.search(r"author\s+= {(.*?)}", readme, re.DOTALL)[1])  # type: ignore[index]
    names = [f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]]
    assert bibtex == " and ".join(names)


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_what_they_name_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    for path in re.findall(r"`((?:tests|recipes)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
