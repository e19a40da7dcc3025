"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


def imports(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--import MODULE``. The import comes when the command runs, not when its line is parsed:
    --help and the completion of a shell run no code of the user's."""

    @click.option(
        "--import",
        "modules",
        multiple=True,
        metavar="MODULE",
        help="First import MODULE, or a file MODULE.py, for the samplers, architectures and "
        "metrics that it registers. Repeatable.",
    )
    @functools.wraps(command)
    def run(*args: Any, modules: tuple[str, ...], **kwargs: Any) -> Any:
        from mgdm_audio.importing import import_modules

        import_modules(modules)
        return command(*args, **kwargs)

    return run
