"""Registries of objects by name, which installed packages and imported modules can extend.

A name is looked up among the built-in and registered ones, and then among the entry points that
installed packages declare in the registry's group. That reads metadata only; just the entry point
of the requested name is imported, so that a name in a file from elsewhere can only run code that
the user has installed under it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, distributions, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeVar

from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError, described

T = TypeVar("T")


class Registry(dict[str, T]):
    """Maps names to built-in and registered objects; ``find`` also searches entry points.

    ``what``: the noun in error messages; ``group``: that of the entry points; ``fault(value)``
    returns why a value is not valid, or None.
    """

    def __init__(
        self,
        what: str,
        group: str,
        fault: Callable[[Any], str | None],
        built_in: Mapping[str, T],
    ) -> None:
        super().__init__(built_in)
        self.what, self.group, self.fault = what, group, fault

    def register(self, name: str, value: T) -> None:
        """Adds ``value`` under ``name``. Raises UserError for a used name or an invalid value."""
        if name in self:
            raise UserError(f"{self.what} {name!r} exists already; choose another name")
        self[name] = self._checked(name, value)

    def find(self, name: object) -> T:
        """Returns the built-in or registered object, or imports the entry point, of this name.

        An entry point cannot replace a built-in name. Raises UserError, in one line, for an unknown
        name, suggesting the nearest, and for an entry point that fails, naming its package.
        """
        if isinstance(name, str):
            if name in self:
                return self._checked(name, self[name])
            if found := [entry for entry in _declared(self.group) if entry.name == name]:
                return self._loaded(name, found)
        known = {*self, *(entry.name for entry in _declared(self.group))}
        near = nearest(str(name), known) if known else ", and there is none"
        own = "; one of your own needs its module, --import MODULE"
        own = "" if "; did you mean" in near else own
        raise UserError(f"{self.what} {name!r} is unknown{near}{own}")

    def _loaded(self, name: str, entries: list[EntryPoint]) -> T:
        packages = " and ".join(map(_package, entries))
        if len(entries) > 1:
            raise UserError(f"{self.what} {name!r} is declared by {packages}; uninstall one")
        try:
            value = entries[0].load()
        except (Exception, SystemExit) as error:  # whatever the package's code raises
            raise UserError(
                f"{self.what} {name!r} of the package {packages} cannot be imported from "
                f"{entries[0].value}: {described(error)}; mend, update or uninstall it"
            ) from error
        return self._checked(name, value, f" of the package {packages}")

    def _checked(self, name: str, value: Any, whose: str = "") -> T:
        if fault := self.fault(value):
            raise UserError(f"{self.what} {name!r}{whose}: {value!r} {fault}")
        return value


def _declared(group: str) -> list[EntryPoint]:
    try:
        return list(entry_points(group=group))
    except Exception:  # any installed package may have damaged metadata
        for distribution in distributions():
            try:
                _ = distribution.entry_points
            except Exception as error:
                raise UserError(
                    f"package {distribution.metadata['Name']}: its entry_points.txt cannot be "
                    f"read ({described(error)}); reinstall or uninstall it"
                ) from error
        raise


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"


_imported: list[str] = []


def import_modules(modules: Iterable[str]) -> None:
    """Imports modules in order; each is a dotted name or the path of a file that ends in .py.

    The current directory, or that of the file, is appended to ``sys.path``, so that installed
    modules take precedence. A module that is already imported is not run again. Raises UserError,
    in one line, for a module that is missing or raises.
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
    """Returns the modules of ``import_modules``, for a process that needs the same names."""
    return tuple(_imported)


def _import_file(path: Path) -> None:
    """Imports a file under a unique name, so that it does not shadow an installed module."""
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
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
    """Returns the line of the module that raised, if there is one."""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith("<") and frame.filename not in (
            __file__,
            importlib.__file__,
        ):
            return f"line {frame.lineno} of {frame.filename}: "
    return ""
