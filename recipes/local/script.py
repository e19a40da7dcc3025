"""How the recipes' scripts end: a failure that the user can mend is one line, not a traceback."""

from collections.abc import Callable

from mgdm_audio.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Call ``main``; a UserError becomes ``error: ...`` on standard error and exit code 1."""
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
