"""Which files are meant: sound among a user's paths, and the stems in a track's folder."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from mgdm_audio.audio.io import read
from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError

# Of all that the reader takes, read by libsndfile, or by FFmpeg with the extra ``formats``.
_LIBSNDFILE = (
    "wav wave bwf rf64 bw64 w64 flac aif aiff aifc au snd caf ogg oga opus mp1 mp2 mp3 mpga "
    "voc sf ircam paf pvf svx 8svx nist sph avr"
)
_FFMPEG = (
    "m4a m4b m4r mp4 m4v mov 3gp 3g2 aac adts wma asf wmv webm weba mka mkv ac3 eac3 ec3 dts ape "
    "wv tta tak amr mpc ogv ogx spx ts m2ts mts flv f4v avi"
)
SUFFIXES = frozenset(f".{suffix}" for suffix in f"{_LIBSNDFILE} {_FFMPEG}".split())
_NAMED = 5  # files that a line about those left out names


@dataclass(frozen=True)
class Track:
    """A file to separate. ``name``: of its results; the path below the folder, without suffix."""

    path: Path
    name: str


def find_tracks(
    inputs: Sequence[Path], output: Path, on_left_out: Callable[[str], None] = lambda line: None
) -> list[Track]:
    """Files as they are named, and those of sound below a folder, sorted.

    Links are followed, each folder is entered once. Hidden files and folders are left out, and so
    is ``output``, which holds stems; ``on_left_out(line)`` is told of every folder what is. A file
    that is named twice is taken once. Names that are alike but for the suffix (song.wav beside
    song.mp3) keep it. Raises UserError for a folder that holds no sound, cannot be read, or is
    ``output`` itself.
    """
    found: list[Track] = []
    for path in inputs:
        if path.is_dir():
            found += _walk(path, output.resolve(), on_left_out)
        else:
            found.append(Track(path, path.stem))
    tracks = list({track.path.absolute(): track for track in reversed(found)}.values())[::-1]
    suffixes: dict[str, set[str]] = defaultdict(set)
    for track in tracks:
        suffixes[track.name.casefold()].add(track.path.suffix)
    return [
        replace(track, name=track.name + track.path.suffix)
        if len(suffixes[track.name.casefold()]) > 1
        else track
        for track in tracks
    ]


def _walk(folder: Path, output: Path, on_left_out: Callable[[str], None]) -> list[Track]:
    if folder.resolve() == output:
        raise UserError(f"{folder}: is the output folder as well; choose another one for the stems")
    found: list[Path] = []
    other: list[str] = []
    for path in _entries(folder, output, other):
        name = str(path.relative_to(folder))
        if path.suffix.lower() not in SUFFIXES:
            if path.name[0] != ".":
                other.append(name)
        elif path.name[0] == ".":
            other.append(f"{name} (hidden)")
        else:
            found.append(path)
    if not found:
        raise UserError(f"{folder}: is a folder that holds no sound file; give a sound file")
    if other:
        more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
        on_left_out(f"{folder}: left out {', '.join(sorted(other)[:_NAMED])}{more}")
    found.sort(key=lambda path: path.relative_to(folder).parts)
    return [Track(path, str(path.relative_to(folder).with_suffix(""))) for path in found]


def _entries(folder: Path, output: Path, other: list[str]) -> Iterator[Path]:
    """Every file at any depth; folders behind links after all others, so that they keep their own
    names. Those that are left out are added to ``other``."""
    seen: set[tuple[int, int]] = set()
    waiting = deque([folder])
    try:
        while waiting:
            here = waiting.popleft()
            name = str(here.relative_to(folder))
            where = here.stat()
            if (where.st_dev, where.st_ino) in seen:
                other.append(f"{name} (a link to a folder that is read already)")
                continue
            seen.add((where.st_dev, where.st_ino))
            if here.resolve() == output:
                other.append(f"{name} (the output)")
                continue
            for path in sorted(here.iterdir()):
                if not path.is_dir():
                    yield path
                elif path.name[0] == ".":
                    other.append(f"{path.relative_to(folder)} (hidden)")
                elif path.is_symlink():
                    waiting.append(path)
                else:
                    waiting.appendleft(path)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None


STEM_SUFFIXES = (".wav", ".flac", *sorted(SUFFIXES - {".wav", ".flac"}))  # in upper case too
MIXTURES = ("mixture", "mix")  # names of a file beside the stems that is no stem


def find_stems(folder: Path) -> dict[str, Path]:
    """Stem -> ``folder/<stem>.<suffix>``, sorted; hidden files and mixtures are left out.

    The suffix is that of any format that is read.

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
    mask: int = 0  # of the speakers that the channels are for, see ``speakers``
    files: tuple[Path, ...] = ()


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
    found = {name: read(path, damaged="refuse") for name, path in files.items()}
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
        found[first].mask,
        tuple(Path(path) for path in files.values()),
    )
