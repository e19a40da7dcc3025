"""Errors that a user can fix."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path

LOG = "internal-errors.log"  # in the folder of the results, see ``recorded``
place = ""  # of this process in a cluster, which the lines of ``recorded`` name


class UserError(Exception):
    """An error that the user can fix; ``str()`` is one line with the file or value and the remedy.

    The command line prints that line and exits with ``exit_code``; anything else is a bug and keeps
    its traceback, on the terminal or, where it meets one item of many, in a file (``recorded``).
    """

    exit_code = 1


class RefusedError(UserError):
    """A piece of work that could not be finished; nothing of it was begun."""

    exit_code = 2


class DamagedError(UserError):
    """A sound file that is cut short or damaged; what is left of it could be read."""


class SoundWarning(UserWarning):
    """What a user should know of a sound file that was read all the same; one line."""


def described(error: BaseException) -> str:
    """Returns type and message of an exception of foreign code, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def recorded(error: Exception, folder: Path | None, item: object) -> str:
    """The line of a batch for ``item``, one of many, which raised: the others go on.

    A UserError, a failure of the operating system and a want of memory speak for themselves. Any
    other exception is a bug: its line asks for a report, and its traceback is appended to ``LOG``
    in ``folder``, or is lost where there is none or it cannot be written. On a cluster the line
    names the node, which may lack what others have.
    """
    line = _recorded(error, folder, item)
    return f"{line} ({place})" if place else line


def _recorded(error: Exception, folder: Path | None, item: object) -> str:
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or item}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"{item}: not enough memory; give a smaller one, or close other programs"
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(frame[0].filename).name}:{frame[0].lineno}" if frame else ""
    line = f"{item}: internal error ({described(error)[:300]}{where}); please report it"
    if folder is None:
        return line
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOG, "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{item}\n{text}\n")
        line += f" with its traceback, in {folder / LOG}"
    return line


class PairingError(UserError, TypeError):
    """A sampler does not fit the prior or operator; the message names both."""
