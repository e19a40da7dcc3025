"""Every preset and every row of every table says which published row it stands for, or none."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgdm_audio.config import from_mapping
from mgdm_audio.evaluation.benchmark.suite import System
from mgdm_audio.images.presets import load_image_preset
from mgdm_audio.samplers.presets import NO_ROW, list_presets, load_preset

ROOT = Path(__file__).parents[1]
TABLES = ", Tables 3 and 9"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("egs/**/RESULTS.md"))]
FILES = [
    path
    for pattern in ("mgdm_audio/*/presets/*.toml", "egs/**/conf/*.toml")
    for path in sorted(ROOT.glob(pattern))
]
PRESETS = [path for path in FILES if "sampler" in tomllib.loads(path.read_text())]
SLAKH = ROOT / "egs/slakh2100/msdm"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PRESETS, ids=name)
def test_every_preset_names_its_row(path: Path) -> None:
    """In the file, so that its reader sees it, and not by default."""
    row = tomllib.loads(path.read_text())["published"]
    assert load_preset(path).published == row
    assert row == NO_ROW or re.search(r"(Table|Fig\.|arXiv) ?s? ?\d", row)


def test_every_row_of_the_paper_s_audio_table_has_one_preset() -> None:
    """Two where the paper's text and its code differ; Demucs with Gibbs steps is supervised."""
    rows = [load_preset(preset).published for preset in list_presets()]
    found = sorted(row.removesuffix(TABLES) for row in rows if row.endswith(TABLES))
    published_code = {"MGDM, R = 6", "DDNM", "RED-diff"}
    paper = {"MGDM, R = 6", "MGDM, R = 1, G = 90", "DPS", "PGDM", "DiffPIR", "DAPS", "PnP-DM"}
    paper |= {"MSDM, Dirac", "ISDM"}
    assert found == sorted([*paper, *(f"{row} (published code)" for row in published_code)])


def test_the_slakh_recipe_runs_all_of_them() -> None:
    """But ISDM, whose four checkpoints must be named; and the table of figures has them all."""
    run = re.search(r'--samplers "([^"]*)" \\\n    --results', (SLAKH / "run.sh").read_text())
    assert run is not None
    samplers = set(run[1].replace("\\\n", " ").split())
    stand = {p for p in list_presets() if load_preset(p).published.endswith(TABLES)}
    assert samplers >= stand - {"isdm-dirac"}
    page = (SLAKH / "RESULTS.md").read_text()
    figures = re.findall(r"^\| ([\w-]+) \| ", page.split("## The published figures")[1], re.M)
    assert set(figures) >= samplers | stand | {path.stem for path in SLAKH.glob("conf/*.toml")}


def rows_of(page: Path) -> dict[str, set[str]]:
    """The label of a row -> what it may stand for: presets, and systems of the page's suites."""
    rows = {preset: {load_preset(preset).published} for preset in list_presets()}
    known = {page.parent, SLAKH}  # the presets of the paper's figure are those of Slakh's page
    rows |= {p.stem: {load_preset(p).published} for p in PRESETS if known & {*p.parents}}
    for path in page.parent.glob("conf/*.toml"):
        systems = tomllib.loads(path.read_text()).get("systems", {})
        if isinstance(systems, dict):  # of restored images; at a task that the paper has
            for label, table in systems.items():
                preset = load_image_preset(table["preset"], "sr4", table.get("set", []))
                rows[label] = {preset.published}
            continue
        for system in (from_mapping(System, table, str(path)) for table in systems):
            if not system.is_reference:
                draws = [f"draws={system.draws}"] * (system.draws is not None)
                preset = load_preset(system.source, [*system.overrides, *draws])
                rows.setdefault(system.name, set()).add(preset.published)
    return rows


def tables(page: Path) -> Iterator[list[list[str]]]:
    """The cells of every table, heads first."""
    for block in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.M):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        yield [[cell.strip() for cell in line] for line in [lines[0], *lines[2:]]]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_table_names_the_published_rows(page: Path) -> None:
    """In a column, or in a sentence on the page that no other row of it stands for one."""
    known, silent = rows_of(page), False
    for heads, *lines in tables(page):
        column = heads.index("published row") if "published row" in heads else None
        silent |= column is None
        for cells in lines:
            labels = re.findall(r"`([^`]*)`", cells[0]) or [cells[0]]
            rows = [NO_ROW] if column is None else cells[column].split("; ")
            for label, row in zip(labels, rows * (len(labels) // len(rows)), strict=True):
                # README.md names the tables once for all rows.
                full = known.get(label, {NO_ROW})
                assert row in full | {each.removesuffix(TABLES) for each in full}, label
    assert not silent or "has the settings of a published one" in page.read_text()
