"""What a track is made of: which source files sum to which stem, and what was decided about it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mgdm_audio.audio.stems import STEM_SUFFIXES
from mgdm_audio.errors import UserError

LARGEST = 1 << 20  # bytes of a track's description; those of published data sets have thousands


@dataclass(frozen=True, order=True)
class Decision:
    """Something that a reader of the stems should know: ``what`` was done about ``of``, and why.

    ignored, unrendered, missing, duplicate (of source files), padded, averaged (of their samples),
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

    Both are relative to ``track``; a name has no suffix. Of one that is there as flac and as wav
    the flac is taken: it carries a checksum. Hidden files are left out.
    """
    files = [
        file.relative_to(track)
        for file in (track / inside).rglob("*")
        if file.suffix.lower() in STEM_SUFFIXES and file.is_file()
    ]
    found: dict[str, str] = {}
    decisions = []
    for file in sorted(files, key=lambda file: (file.suffix.lower() != ".flac", file.as_posix())):
        if any(part[0] == "." for part in file.parts):
            continue
        name = file.with_suffix("").as_posix()
        if name in found:
            decisions.append(Decision(file.as_posix(), "duplicate", f"of {found[name]}"))
        else:
            found[name] = file.as_posix()
    return found, decisions


def lost(folder: str, listed: int, description: str) -> str:
    """The end of a refusal of a track where no file of those listed is in ``folder``."""
    files = f"{listed} files that {description} lists"
    return f": {folder} has none of the {files}; fetch the track again"


def read_description(path: Path) -> bytes:
    """A track's metadata file. Raises UserError where it cannot be read or has more than 1 MiB."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fetch it again") from None
    if len(data) > LARGEST:
        raise UserError(
            f"{path}: larger than {LARGEST} bytes; it describes no track, fetch it again"
        )
    return data
