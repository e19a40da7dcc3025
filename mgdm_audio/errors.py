"""The failures a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A failure the user can mend: ``str()`` is one line naming the file or value and the remedy.

    The command line prints that line and exits with status 1; anything else is a bug and keeps
    its traceback.
    """


class DamagedError(UserError):
    """A sound file that is cut short or damaged; what is left of it could be read."""


class SoundWarning(UserWarning):
    """What a user should know of a sound file that was read all the same; one line."""


def described(error: BaseException) -> str:
    """Type and message of an exception of foreign code, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


class PairingError(UserError, TypeError):
    """A sampler that was given a prior or an operator it cannot work with; it names both."""
