"""A result's folder, written whole or not at all, which spares the user's own files."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mgdm_audio.atomic import is_taken, room, sweep
from mgdm_audio.errors import UserError


def require_writable(folder: str | Path) -> None:
    """Before hours of computing, not after: UserError where files cannot be made in the folder."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from None


def spare(planned: Iterable[Path], inputs: Iterable[Path]) -> None:
    """UserError where a file that is to be written is one of the user's ``inputs``.

    By whatever name: links are seen through. What is not there is spared.
    """
    there = {identity: file for file in planned if (identity := _identity(file)) is not None}
    for path in inputs if there else ():
        if (identity := _identity(path)) in there:
            raise UserError(
                f"{path}: would be replaced by a result ({there[identity]}); choose another output "
                "folder"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Of a file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


@contextmanager
def whole(
    final: Path, record: str, discard: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``final`` when the block ends well.

    A folder that is there already keeps the user's files; those of the same names are replaced.
    ``record``: the file that tells how the others were made, below ``final``. ``discard(final)``
    removes what else an earlier result left there. Raises UserError where ``final`` cannot be
    written.
    """
    # Results that share a folder may be written at the same time; each has a record of its own.
    purpose = f"{final.name}/{record}"
    try:
        sweep(final.parent, purpose)  # where it was written before there was a folder
        with room(final if final.is_dir() else final.parent, purpose) as partial:
            yield partial
            _put(partial, final, record, discard)
    except OSError as error:
        raise unwritable(final, error) from None


def _put(partial: Path, final: Path, record: str, discard: Callable[[Path], None] | None) -> None:
    if not final.is_dir():
        try:
            os.replace(partial, final)
            return
        except OSError as error:  # another process may have made it meanwhile
            if not is_taken(error):
                raise
    _merge(partial, final, record, discard)


def _merge(partial: Path, final: Path, record: str, discard: Callable[[Path], None] | None) -> None:
    """Move all files to ``final``. The record goes first and comes last, so that it never
    describes files that are not its own."""
    files = [file for file in partial.rglob("*") if file.is_file()]
    for target in (final / file.relative_to(partial) for file in files):
        if target.is_dir():  # nothing is touched where not all can be replaced
            raise IsADirectoryError(21, "a folder is in the way", str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
    if discard is not None:  # it reads the record
        discard(final)
    (final / record).unlink(missing_ok=True)
    for file in sorted(files, key=lambda file: file == partial / record):
        target = final / file.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)


def unwritable(folder: str | Path, error: OSError) -> UserError:
    """The line that says so."""
    return UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder")
