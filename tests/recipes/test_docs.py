"""The documentation: its reference has every public name, and it builds without a warning."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import mgdm_audio
from mgdm_audio import measurement
from mgdm_audio.cli.main import COMMANDS
from mgdm_audio.evaluation.metric_registry import METRICS
from mgdm_audio.images.presets import list_image_presets
from mgdm_audio.images.tasks import TASKS
from mgdm_audio.interop import deepinv
from mgdm_audio.priors.architectures import ARCHITECTURES
from mgdm_audio.priors.folder import list_image_priors, list_priors
from mgdm_audio.samplers import SAMPLERS
from mgdm_audio.samplers.presets import list_presets, load_preset

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "recipes/docs"
LINK = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\s\">]+)"
)


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    """The generator of the reference, which is no part of the package."""
    sys.path.insert(0, str(DOCS))
    spec = importlib.util.spec_from_file_location("docs_reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(DOCS))


def headings(text: str) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", text, re.M))


def rows(text: str) -> list[list[str]]:
    """The cells of all tables."""
    lines = re.findall(r"^\|( .+)\|$", text, re.M)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def test_every_public_name_is_in_the_reference(reference: ModuleType) -> None:
    documented = set(re.findall(r"^::: (\S+)$", reference.python(), re.M))
    public = {f"mgdm_audio.{name}" for name in dir(mgdm_audio)} - {"mgdm_audio.__version__"}
    assert documented >= public
    assert "mgdm_audio.__version__" in reference.python()
    operators = set(re.findall(r"^::: (\S+)$", reference.measurements(), re.M))
    public = {f"{m.__name__}.{name}" for m in (measurement, deepinv) for name in m.__all__}
    assert operators == public


def test_every_sampler_is_there_with_its_parameters(reference: ModuleType) -> None:
    text = reference.samplers()
    assert headings(text) >= SAMPLERS.keys()
    sections = dict(re.findall(r"^## (\S+)$(.*?)(?=^## )", text, re.M | re.S))
    for name, cls in SAMPLERS.items():
        fields = [row[0].strip("`") for row in rows(sections[name])[1:]]
        assert fields == list(cls.__dataclass_fields__), name
        assert [row[0] for row in rows(sections[name])[1:] if not row[4]] == [], name
    learning_rate = next(row for row in rows(sections["mgdm"]) if row[0] == "`learning_rate`")
    row = ["`learning_rate`", "`PerStep`", "`PerStep(0.005)`", "positive and finite", "of Adam"]
    assert learning_rate == row


def test_every_preset_is_there_with_its_published_row(reference: ModuleType) -> None:
    text = reference.presets()
    listed = {row[0].strip("`"): row[3] for row in rows(text)[1:]}
    assert listed == {name: load_preset(name).published for name in list_presets()}
    assert headings(text) >= {*list_presets()}
    assert headings(text) >= {f"image preset {name}" for name in list_image_presets()}


def test_every_registered_name_is_there(reference: ModuleType) -> None:
    assert headings(reference.priors()) >= ARCHITECTURES.keys()
    for name in (*list_priors(), *list_image_priors()):
        assert f"[{name}](../mgdm_audio/pretrained/" in reference.priors()
    assert {row[0].strip("`") for row in rows(reference.tasks())} >= TASKS.keys()
    assert {row[0].strip("`") for row in rows(reference.evaluation())} >= METRICS.keys()
    commands = headings(reference.commands())
    assert commands >= {f"mgdm-audio {name}" for name in COMMANDS}
    assert commands >= {"mgdm-audio priors verify", "mgdm-audio prepare slakh"}


def test_every_key_of_a_training_run_is_there(reference: ModuleType) -> None:
    """Those that the bundled configurations set, and the sections that the reader knows."""
    text = reference.training()
    assert headings(text) >= {f"[{name}]" for name in reference.STEM_SECTIONS}
    assert reference.stem_run.TrainConfig.__dataclass_fields__.keys() - {"prior_schedule"} == {
        name for name in reference.STEM_SECTIONS if "." not in name
    }
    assert [row[0] for row in rows(text) if not row[-1].strip()] == []  # each says what it is
    rest = next(row for row in rows(text) if row[0] == "`rest`")
    assert rest[1:4] == ["`float`", "`0.0`", "a share from 0 to below 1"]
    assert rest[4] == "share of the stems silenced, never all of an example"


@pytest.mark.parametrize("path", sorted((ROOT / "mgdm_audio").rglob("*.py")), ids=lambda p: p.stem)
def test_markdown_loses_nothing_of_a_docstring(path: Path) -> None:
    """A word in angle brackets outside code would be taken for HTML; the commands' help is code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        said = [n for n in (ast.get_docstring(node) or "").splitlines() if n[:4] != " " * 4]
        prose = re.sub(r"(`+).*?\1", "", "\n".join(said), flags=re.S)
        assert "cli" in path.parts or re.findall(r"<[A-Za-z/!]", prose) == []
        assert re.findall(r":(?:class|func|meth|mod):", prose) == []  # roles of Sphinx


def test_the_pages_build_and_ask_nothing_of_the_network(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["bash", ROOT / "recipes/docs.sh", "--venv", "none", "--output", tmp_path / "docs"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "docs/site"
    pages = sorted(site.rglob("*.html"))
    for name in ("index.html", "reference/python.html", "egs/mini_slakh/samplers/index.html"):
        assert site / name in pages
    for page in pages:
        assert LINK.findall(page.read_text()) == [], page
    text = (site / "reference/python.html").read_text()
    for name in set(dir(mgdm_audio)) - {"__version__"}:
        assert f'id="mgdm_audio.{name}"' in text
    assert 'id="mgdm_audio.Separator.from_pretrained"' in text  # of a base class
