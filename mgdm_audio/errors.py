"""Errors that a user can fix."""

from __future__ import annotations


class UserError(Exception):
    """An error that the user can fix; ``str()`` is one line with the file or value and the remedy.

    The command line prints that line and exits with status 1; any other exception is a bug and
    keeps its traceback.
    """


def described(error: BaseException) -> str:
    """Returns type and message of an exception of foreign code, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


class PairingError(UserError, TypeError):
    """A sampler does not fit the prior or operator; the message names both."""
