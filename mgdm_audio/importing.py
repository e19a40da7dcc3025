"""Modules of the user's own, imported by their name or file for what they register."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from mgdm_audio.errors import UserError, described

_imported: list[str] = []


def import_modules(modules: Iterable[str]) -> None:
    """Import each module, in their order: a dotted name, or the path of a file that ends in .py.

    The current directory, or for a path the file's, is appended to ``sys.path``: what is installed
    comes before what lies there. A module that is imported already is not run again. Raises
    UserError, in one line, for a module that is missing or raises.
    """
    for module in modules:
        try:
            if module.endswith(".py"):
                module = str(Path(module).resolve())
                _import_file(Path(module))
            else:
                _append_to_path(os.getcwd())
                importlib.invalidate_caches()
                importlib.import_module(module)
        except (Exception, SystemExit) as error:  # whatever the module's code raises
            raise UserError(f"--import {module}: {_place(error)}{described(error)}") from error
        if module not in _imported:
            _imported.append(module)


def imported_modules() -> tuple[str, ...]:
    """What ``import_modules`` has imported, for a process that is to know the same names."""
    return tuple(_imported)


def _import_file(path: Path) -> None:
    """Under a name of its own, so that a file named like an installed module hides none."""
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"{re.sub(r'[^a-zA-Z0-9]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return
    _append_to_path(str(path.parent))
    spec = spec_from_file_location(name, path)
    assert spec is not None  # its name ends in .py
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _append_to_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.append(folder)


def _place(error: BaseException) -> str:
    """The line of the module that raised, where one did."""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith("<") and frame.filename not in (
            __file__,
            importlib.__file__,
        ):
            return f"line {frame.lineno} of {frame.filename}: "
    return ""
