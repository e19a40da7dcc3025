"""What the tests of the recipes share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[2] / "egs" / "mini_slakh" / "data"


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """Imports a module of data/local by its name."""
    sys.path.insert(0, str(DATA / "local"))
    yield import_module
    sys.path.remove(str(DATA / "local"))


@pytest.fixture
def load_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Imports a script by its path; what it adds to the search path goes with the test."""

    def load(path: Path) -> Any:
        monkeypatch.setattr(sys, "path", [*sys.path])
        spec = spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="module")
def font() -> Path:
    """TimGM6mb.sf2, which comes with pretty_midi."""
    return Path(str(import_module("pretty_midi").__file__)).parent / "TimGM6mb.sf2"
