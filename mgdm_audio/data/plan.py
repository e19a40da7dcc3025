"""The tracks of a data set, and what each is made of: which source files sum to which stem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgdm_audio.audio.files import SUFFIXES
from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError
from mgdm_audio.reading import require_regular

LARGEST = 1 << 20  # bytes of a track's description; those of published data sets have thousands


@dataclass(frozen=True, order=True)
class Decision:
    """Something that a reader of the stems should know: ``what`` was done about ``of``, and why.

    ignored, unrendered, missing, duplicate, bleeds (of source files), padded, averaged, converted
    (of their samples),
    silent, float (of stems).
    """

    of: str  # a source file, relative to the track's folder, or a stem
    what: str
    why: str


@dataclass(frozen=True, order=True)
class Source:
    """One file, or one stream of a file, that is summed into a stem."""

    path: str  # relative to the track's folder, with "/"; of a stream, its name
    program: int | None = None  # General MIDI program, 0 to 127 (Slakh: 128 for drums)
    stream: int | None = None  # number of the stream, from 0, in a track that is one file

    def file(self, track: Path) -> Path:
        """The file to read, of the track that is the folder or the file ``track``."""
        return track / self.path if self.stream is None else track


@dataclass(frozen=True)
class Plan:
    """Stem -> the sources that sum to it, sorted; none for a stem that the track lacks."""

    stems: dict[str, tuple[Source, ...]]
    decisions: tuple[Decision, ...]


Planner = Callable[[Path], Plan]  # of a track's folder or file; raises UserError if it is damaged


def find_audio(track: Path, inside: str = ".") -> tuple[dict[str, str], list[Decision]]:
    """Every sound file under ``track/inside``, at any depth: name -> path, and the duplicates.

    Both are relative to ``track``; a name has no suffix. Of one that is there in several formats
    the flac is taken, which carries a checksum, or the wav. Hidden files are left out.
    """
    files = [
        file.relative_to(track)
        for file in (track / inside).rglob("*")
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]
    found: dict[str, str] = {}
    decisions = []
    for file in sorted(files, key=lambda file: (_preference(file), file.as_posix())):
        if any(part[0] == "." for part in file.parts):
            continue
        name = file.with_suffix("").as_posix()
        if name in found:
            decisions.append(Decision(file.as_posix(), "duplicate", f"of {found[name]}"))
        else:
            found[name] = file.as_posix()
    return found, decisions


def _preference(file: Path) -> int:
    suffix = file.suffix.lower()
    return (".flac", ".wav", suffix).index(suffix)


def lost(folder: str, listed: int, description: str) -> str:
    """The end of a refusal of a track where no file of those listed is in ``folder``."""
    files = f"{listed} files that {description} lists"
    return f": {folder} has none of the {files}; fetch the track again"


def read_description(path: Path) -> bytes:
    """A track's metadata file. Raises UserError where it cannot be read or has more than 1 MiB."""
    try:
        with open(require_regular(path), "rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); fetch it again") from None
    if len(data) > LARGEST:
        raise UserError(
            f"{path}: larger than {LARGEST} bytes; it describes no track, fetch it again"
        )
    return data


ALL = "all"  # name of the one split of a data set that has none


@dataclass(frozen=True)
class Track:
    """One track: its split, its name, its folder, and other splits that hold a track so named."""

    split: str
    name: str
    folder: Path  # or the one file that holds all of its stems, or the data set, if it is planned
    source: str  # the folder or the file relative to the data set, with "/", or its id
    elsewhere: tuple[str, ...] = ()
    planned: Plan | UserError | None = None  # its plan or why it has none; None: a planner's


def find_tracks(
    root: Path,
    splits: Sequence[str],
    known: Sequence[str],
    omitted: Sequence[str] = (),
    suffix: str = "",
) -> list[Track]:
    """Every folder in the splits of ``root``, sorted by split and name; hidden ones are left out.

    ``splits``: those to take; without it, those in ``known`` that are there. ``omitted`` are taken
    when named only. A root with none of them is one split: ``all``, or the one name in ``splits``.
    ``suffix``: a file whose name ends so is a track too, unless a folder has the rest of the name.
    Raises UserError for a root or a split that is missing, and where there is no track.
    """
    if not root.is_dir():
        raise UserError(f"{root}: is {'no folder' if root.exists() else 'missing'}; check the path")
    for split in splits:
        if Path(split).name != split or split[:1] in ("", "."):
            raise UserError(f"split {split!r}: is no name of a folder")
    folders = _tracks(root, "")
    there = [split for split in (*known, *omitted) if split in folders]
    chosen = list(dict.fromkeys(splits)) or [split for split in there if split in known]
    missing = [split for split in chosen if split not in folders]
    without_splits = not there and len(chosen) == len(missing) <= 1
    if without_splits:
        split = chosen[0] if chosen else ALL
        paths = _tracks(root, suffix)
        tracks = [Track(split, name, path, path.name) for name, path in paths.items()]
    elif missing or not chosen:
        wanted = (missing or known)[0]
        raise UserError(f"{root}: has no split {wanted!r}{nearest(wanted, folders)}")
    else:
        found = {s: _tracks(root / s, suffix) for s in {*there, *chosen}}
        tracks = [
            Track(
                split,
                name,
                path,
                f"{split}/{path.name}",
                tuple(sorted(s for s in found if s != split and name in found[s])),
            )
            for split in chosen
            for name, path in found[split].items()
        ]
    if not tracks:
        raise UserError(f"{root}: holds no folder of a track; check its layout")
    return sorted(tracks, key=lambda track: (track.split, track.name))


def _tracks(folder: Path, suffix: str) -> dict[str, Path]:
    """Name -> folder, or file that ends in ``suffix``, sorted; of both the folder is taken."""
    there = [path for path in folder.iterdir() if path.name[0] != "."]
    files = [path for path in there if suffix and path.name.endswith(suffix) and path.is_file()]
    found = {path.name.removesuffix(suffix): path for path in files}
    found |= {path.name: path for path in there if path.is_dir()}
    return dict(sorted(found.items()))
