"""What the recipes' scripts share: options, and an end in one line and not in a traceback."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from mgdm_audio.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Call ``main``; a UserError becomes ``error: ...`` on standard error and exit code 1."""
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


def separation_parser(description: str) -> ArgumentParser:
    """With the options of a script that separates a folder of true stems to measure something."""
    parser = ArgumentParser(description=description)
    parser.add_argument("stems", type=Path)
    parser.add_argument("--prior", default="mini-slakh-v3")
    parser.add_argument("--sampler", default="default")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the sampler")
    parser.add_argument("--tracks", type=int, help="only the first so many")
    parser.add_argument("--device", default="auto")
    return parser
