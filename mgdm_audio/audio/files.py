"""Which files are meant: sound among a user's paths, and the stems in a track's folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from mgdm_audio.audio.io import read
from mgdm_audio.config import nearest
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


STEM_SUFFIXES = (".wav", ".flac")  # in upper case too
MIXTURES = ("mixture", "mix")  # names of a file beside the stems that is no stem


def find_stems(folder: Path) -> dict[str, Path]:
    """Stem -> ``folder/<stem>.wav|flac``, sorted; hidden files and mixtures are left out.

    Raises UserError for a stem that is there twice: nothing says which of the files is meant.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in STEM_SUFFIXES or file.name[0] == "." or not file.is_file():
            continue
        if file.stem in found:
            raise UserError(
                f"{file}: the same stem is there as {file.suffix[1:]} "
                f"and as {found[file.stem].suffix[1:]}; remove one"
            )
        if file.stem not in MIXTURES:
            found[file.stem] = file
    return found


@dataclass(frozen=True)
class Given:
    """``stems``: name -> [channel, time], all of one shape, at ``sample_rate`` Hz."""

    stems: dict[str, Tensor]
    sample_rate: int
    inputs: dict[str, str] = field(default_factory=dict)  # name -> the file's name, for the record


def read_given(files: Mapping[str, str | Path], stems: Sequence[str]) -> Given:
    """Read ``stem -> file`` for a prior of these ``stems``.

    Raises UserError, in one line, for a stem that is none of them (naming the nearest), for all of
    them (nothing is missing), for a file that cannot be read, and for files that differ in rate,
    channels or length.
    """
    for name in files:
        if name not in stems:
            raise UserError(f"the prior has no stem {name!r}{nearest(name, stems)}")
    if len(files) == len(stems):
        raise UserError(f"all stems are given ({', '.join(stems)}): leave one out to be drawn")
    found = {name: read(path) for name, path in files.items()}
    first, *others = found
    for name in others:
        a, b = found[first], found[name]
        for what, one, other in (
            ("Hz", a.sample_rate, b.sample_rate),
            ("channels", a.samples.shape[0], b.samples.shape[0]),
            ("samples", a.samples.shape[1], b.samples.shape[1]),
        ):
            if one != other:
                raise UserError(
                    f"{files[name]}: {other} {what}, but {files[first]} has {one}; "
                    "given stems must have one rate, channel count and length"
                )
    return Given(
        {name: audio.samples for name, audio in found.items()},
        found[first].sample_rate,
        {name: Path(path).name for name, path in files.items()},
    )
