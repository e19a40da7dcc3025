"""The sound files among files and folders that a user names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgdm_audio.errors import UserError

_LOSSLESS = (".wav", ".w64", ".rf64", ".flac", ".aif", ".aiff", ".aifc", ".au", ".caf")
_LOSSY = (".ogg", ".oga", ".opus", ".mp3", ".m4a", ".mp4", ".aac", ".wma", ".webm", ".ac3")
SUFFIXES = frozenset(_LOSSLESS + _LOSSY)


@dataclass(frozen=True)
class Track:
    """A file to separate. ``name``: of its results; the path below the folder, without suffix."""

    path: Path
    name: str


def find_tracks(inputs: Sequence[Path], output: Path) -> list[Track]:
    """Files as they are named, and those of sound below a folder, sorted.

    Hidden files and folders are left out, and so is ``output``, which holds stems. Raises UserError
    for a folder that holds no sound, cannot be read, or is ``output`` itself.
    """
    tracks = []
    for path in inputs:
        if path.is_dir():
            tracks += _walk(path, output.resolve())
        else:
            tracks.append(Track(path, path.stem))
    return tracks


def _walk(folder: Path, output: Path) -> list[Track]:
    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None

    if folder.resolve() == output:
        raise UserError(f"{folder}: is the output folder as well; choose another one for the stems")
    found = []
    for where, folders, files in os.walk(folder, onerror=refuse):
        here = Path(where)
        folders[:] = [f for f in folders if f[0] != "." and (here / f).resolve() != output]
        names = (Path(file) for file in files if file[0] != ".")
        found += [here / name for name in names if name.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"{folder}: is a folder that holds no sound file; give a sound file")
    found.sort(key=lambda path: path.relative_to(folder).parts)
    return [Track(path, str(path.relative_to(folder).with_suffix(""))) for path in found]
