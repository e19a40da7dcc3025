"""Sound files, their samples and sample rates."""

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any


def moved(old: str, new: str) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a module ``old`` whose names are in ``new`` now.

    It warns, and serves the former places of modules for one version more.
    """

    def get(name: str) -> Any:
        if name.startswith("__"):  # what the import system asks every module for
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        warnings.warn(
            f"{old} goes in the next version; import {name} from {new}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(new), name)

    return get
