"""A result's folder, written whole or not at all, which spares the user's own files."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from mgdm_audio.atomic import is_taken, room, sweep, sync_all
from mgdm_audio.errors import UserError


def require_writable(folder: str | Path) -> None:
    """Before hours of computing, not after: UserError where files cannot be made in the folder."""
    require_name(folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from None


def require_name(folder: str | Path) -> None:
    """Raises UserError for a name with a NUL, for which Python raises no OSError."""
    if "\0" in str(folder):
        raise UserError(f"{str(folder)!r}: a name holds no NUL; choose another one")


class Inputs:
    """The user's files, looked up once for the many results that must not replace them."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)

    @cached_property
    def known(self) -> dict[tuple[int, int], Path]:
        """Identity of each file that exists -> the first name that it has here."""
        known: dict[tuple[int, int], Path] = {}
        for path in self.paths:
            if (identity := _identity(path)) is not None:
                known.setdefault(identity, path)
        return known


def spare(planned: Iterable[Path], inputs: Iterable[Path] | Inputs) -> None:
    """Raises UserError where a file that is to be written is one of the user's ``inputs``.

    By whatever name: links are seen through. What is not there is spared. A name that the file
    system does not take is a UserError as well: it is known before anything is computed.
    """
    there = {identity: file for file in planned if (identity := _identity(file)) is not None}
    if not there:
        return
    known = (inputs if isinstance(inputs, Inputs) else Inputs(inputs)).known
    for identity, file in there.items():
        if identity in known:
            raise UserError(
                f"{known[identity]}: would be replaced by a result ({file}); choose another output "
                "folder"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Returns device and inode of a file, or None. Raises UserError for a name that is too long."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise UserError(f"{path}: the name is too long; choose a shorter one") from None
        return None
    return found.st_dev, found.st_ino


@contextmanager
def whole(
    final: Path, record: str, earlier: Callable[[Path], Iterable[Path]] | None = None
) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``final`` when the block ends well.

    A folder that is there already keeps the user's files; those of the same names are replaced.
    ``record``: the file that tells how the others were made, below ``final``. ``earlier(final)``:
    files that an earlier result left there, which are removed. Raises UserError where ``final``
    cannot be written.
    """
    require_name(final)
    try:
        sweep(final.parent)  # where it was written before there was a folder
        with room(final if final.is_dir() else final.parent) as partial:
            yield partial
            sync_all(partial)
            _put(partial, final, record, earlier)
    except OSError as error:
        raise unwritable(final, error) from None


def _put(
    partial: Path, final: Path, record: str, earlier: Callable[[Path], Iterable[Path]] | None
) -> None:
    if not final.is_dir():
        try:
            os.replace(partial, final)
            return
        except OSError as error:  # another process may have made it meanwhile
            if not is_taken(error):
                raise
    _merge(partial, final, record, () if earlier is None else earlier(final))


def _merge(partial: Path, final: Path, record: str, earlier: Iterable[Path]) -> None:
    """Move all files to ``final``. The record goes first and comes last, so that it never
    describes files that are not its own."""
    files = [file for file in partial.rglob("*") if file.is_file()]
    for target in (final / file.relative_to(partial) for file in files):
        if target.is_dir():  # nothing is touched where not all can be replaced
            raise IsADirectoryError(21, "a folder is in the way", str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
    (final / record).unlink(missing_ok=True)
    _discard(final, earlier)
    for file in sorted(files, key=lambda file: file == partial / record):
        target = final / file.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)


def _discard(folder: Path, files: Iterable[Path]) -> None:
    """Remove files of an earlier result, and the folders that this leaves empty."""
    for file in files:
        if file.resolve().is_relative_to(folder.resolve()):  # else it is no record of ours
            with suppress(OSError):
                file.unlink(missing_ok=True)
            for parent in file.parents:
                if parent == folder or not parent.is_relative_to(folder):
                    break
                with suppress(OSError):  # it holds something else
                    parent.rmdir()


def unwritable(folder: str | Path, error: OSError) -> UserError:
    """The line that says so."""
    return UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder")
