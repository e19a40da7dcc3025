"""What the tests of the data recipes share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
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


@pytest.fixture(scope="module")
def font() -> Path:
    """TimGM6mb.sf2, which comes with pretty_midi."""
    return Path(str(import_module("pretty_midi").__file__)).parent / "TimGM6mb.sf2"
