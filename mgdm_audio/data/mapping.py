"""Stems under other names: which of a track's files or streams sum to which stem, from TOML."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from mgdm_audio.audio.decoding.ffmpeg import require_av
from mgdm_audio.audio.files import MIXTURES
from mgdm_audio.config import from_mapping, load_toml, nearest
from mgdm_audio.data.listing import LISTINGS, require_yaml
from mgdm_audio.data.plan import (
    Decision,
    Plan,
    Planner,
    Source,
    Track,
    find_audio,
    find_tracks,
    lost,
)
from mgdm_audio.errors import UserError
from mgdm_audio.ranges import Checked, Rule, filled

STREAMS = ".stem.mp4"  # end of the name of a file that holds all stems of a track
_DISTINCT = Rule(
    lambda names: len(set(names)) == len(names),
    "{name}: a name is there twice; name each stream differently",
)
_LISTING = Rule(
    lambda name: name in ("", *LISTINGS),
    f"{{name}} = {{value!r}}: use one of {', '.join(LISTINGS)}",
)
# Name of a source -> the source, and the labels that patterns match.
Labelled = dict[str, tuple[Source, tuple[str, ...]]]


@dataclass(frozen=True)
class Mapping(Checked):
    """A mapping's TOML file.

    ``stems``: stem -> glob patterns on a file's name within its track's folder, without suffix
    ("bass", "guitar/*"; ``*`` matches "/" too, case counts). ``splits``: the folders of tracks in
    the source; without it the source holds the tracks. ``inside``: a folder of the source that
    holds all of that, where it is there. ``streams``: names of the streams of sound in a file
    ``<track>.stem.mp4``, in order, for the patterns; without it such files are no tracks.
    ``listing``: the form of the metadata in every track, "moisesdb", "medleydb" or "medleydb-raw".
    Patterns then match what the metadata say that a file contains (``listing.LISTINGS``), and files
    that they do not list are ignored, as the data sets' own readers ignore them.
    """

    stems: Annotated[dict[str, Any], filled("{name}: name at least one")]
    splits: tuple[str, ...] = ()
    inside: str = ""
    streams: Annotated[tuple[str, ...], _DISTINCT] = ()
    listing: Annotated[str, _LISTING] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for stem, patterns in self.stems.items():
            if Path(stem).name != stem or stem[:1] in ("", ".") or stem in MIXTURES:
                raise ValueError(f"stems: {stem!r} cannot be the name of a stem; choose another")
            if not isinstance(patterns, list | tuple) or not patterns:
                raise ValueError(f"stems.{stem}: give a list of patterns, say ['{stem}/*']")
            if not all(isinstance(pattern, str) and pattern for pattern in patterns):
                raise ValueError(f"stems.{stem}: a pattern is a string that is not empty")


def bundled() -> tuple[str, ...]:
    """Names of the mappings that come with the package."""
    folder = resources.files(__package__) / "mappings"
    return tuple(
        sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
    )


def load_mapping(name: str) -> Mapping:
    """A bundled mapping by its name, or a TOML file. Raises UserError for what is neither."""
    if name in bundled():
        with resources.as_file(resources.files(__package__) / "mappings") as folder:
            return from_mapping(Mapping, load_toml(folder / f"{name}.toml"), name)
    if Path(name).suffix != ".toml":
        raise UserError(f"no mapping {name!r}, nor a .toml file{nearest(name, bundled())}")
    return from_mapping(Mapping, load_toml(name), name)


def planner(mapping: Mapping) -> Planner:
    """``plan`` with that mapping, as a function that other processes can be given."""
    return partial(plan, mapping)


def tracks(mapping: Mapping, source: Path, splits: Sequence[str] = ()) -> list[Track]:
    """The tracks in the data set ``source``, sorted by split and name.

    ``splits``: those to take; without it, those of the mapping. Raises UserError for a folder or a
    split that is missing, where there is no track, and where files of streams cannot be read.
    """
    root = source / mapping.inside
    suffix = STREAMS if mapping.streams else ""
    found = find_tracks(root if root.is_dir() else source, splits, mapping.splits, (), suffix)
    if any(track.folder.is_file() for track in found):
        require_av(f"reading {STREAMS} files")
    if mapping.listing.startswith("medleydb"):
        require_yaml("MedleyDB's metadata")
    return found


def plan(mapping: Mapping, track: Path) -> Plan:
    """The sources of each stem in the folder ``track``, or in the file of streams ``track``.

    A mixture beside the stems is left out. Raises UserError for a file that two stems claim, a
    listing that cannot be read, and a track without a file of any stem.
    """
    stems = ", ".join(mapping.stems)
    if track.is_file():
        streams: Labelled = {n: (Source(n, stream=k), (n,)) for k, n in enumerate(mapping.streams)}
        return assign(mapping, track, streams, [], f"{track}: holds no stream of {stems}")
    refusal = f"{track}: holds no wav or flac file of {stems}"
    there: Labelled
    if not mapping.listing:
        found, decisions = find_audio(track)
        there = {name: (Source(path), (name,)) for name, path in found.items()}
        return assign(mapping, track, there, decisions, refusal)
    listing = LISTINGS[mapping.listing](track)
    found, decisions = find_audio(track, listing.inside)
    labels, file = listing.labels, listing.file.name
    if labels and not labels.keys() & found.keys():
        refusal += lost("the folder", len(labels), file)
    for name in sorted(labels.keys() - found.keys()):
        decisions.append(Decision(name, "missing", f"{file} lists it"))
    for name in sorted(found.keys() - labels.keys()):
        decisions.append(Decision(found.pop(name), "ignored", f"{file} does not list it"))
    for name in sorted(listing.bleeding & found.keys()):
        decisions.append(Decision(found[name], "bleeds", f"{file} says so"))
    there = {name: (Source(path), labels[name]) for name, path in found.items()}
    return assign(mapping, track, there, decisions, refusal)


def assign(
    mapping: Mapping,
    track: Path,
    there: Labelled,
    decisions: list[Decision],
    refusal: str,
) -> Plan:
    """The plan of labelled sources. A source whose labels are of several stems is left out.

    Raises UserError for a label that several stems claim, and UserError(refusal) where no source is
    of any stem.
    """
    stems: dict[str, list[Source]] = {stem: [] for stem in mapping.stems}
    for name, (source, labels) in there.items():
        claims: dict[str, None] = {}
        for label in labels:
            own = [
                stem
                for stem, patterns in mapping.stems.items()
                if any(fnmatchcase(label, pattern) for pattern in patterns)
            ]
            if len(own) > 1:
                where = source.file(track)
                what = "" if label == name else f" ({label})"
                raise UserError(f"{where}{what}: matches {' and '.join(own)}; mend the mapping")
            claims |= dict.fromkeys(own)
        what = "" if labels == (name,) else f"{', '.join(labels)}: "
        if len(claims) > 1:
            why = f"{what}of {' and '.join(claims)}"
            decisions.append(Decision(source.path, "ignored", why))
        elif claims:
            stems[next(iter(claims))].append(source)
        elif name not in MIXTURES:
            decisions.append(Decision(source.path, "ignored", f"{what}matches no stem"))
    if not any(stems.values()):
        raise UserError(refusal)
    return Plan({k: tuple(sorted(v)) for k, v in stems.items()}, tuple(sorted(decisions)))
