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


def test_the_results_of_the_readme_are_those_of_the_pages() -> None:
    rows = re.findall(r"^\| (?:static|`).*", (ROOT / "README.md").read_text(), re.M)
    figures = re.findall(r"-?\d+\.\d\d(?: ± \d\.\d\d)?", "".join(rows))
    pages = "".join(page.read_text().replace("**", "") for page in RESULTS)
    assert len(figures) == 15
    assert [f for f in figures if f"| {f} " not in pages] == []


RESULTS = sorted(ROOT.glob("egs/**/RESULTS.md"))
FOREIGN = ("The published figures", "Beside the published code")  # what others measured


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_of_results_is_short_and_says_whence(page: Path) -> None:
    """At most ten lines of conclusions, the list on top; each section names command and commit."""
    text = page.read_text()
    conclusions = re.search(r"\A# .+\n\n((?:- .+\n(?:  .+\n)*)*)", text)
    assert conclusions is not None
    lines = conclusions[1].splitlines()
    assert len(lines) <= 10
    assert max(map(len, lines), default=0) <= 120
    for section in re.split(r"^## ", text, flags=re.M):
        if "\n|" in section and not section.startswith(FOREIGN):
            title = section.partition("\n")[0]
            assert re.search(r"^    (bash|python|mgdm-audio) ", section, re.M), title
            assert re.search(r"\b[Cc]ommits?\b", section), title


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_what_they_name_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    for path in re.findall(r"`((?:tests|recipes)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
