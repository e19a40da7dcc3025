"""Stems under other names: which of a track's files or streams sum to which stem, from TOML."""

import json
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
from mgdm_audio.data.plan import (
    Decision,
    Plan,
    Planner,
    Source,
    Track,
    find_audio,
    find_tracks,
    lost,
    read_description,
)
from mgdm_audio.errors import UserError
from mgdm_audio.ranges import Checked, Rule, filled

STREAMS = ".stem.mp4"  # end of the name of a file that holds all stems of a track
_DISTINCT = Rule(
    lambda names: len(set(names)) == len(names),
    "{name}: a name is there twice; name each stream differently",
)


@dataclass(frozen=True)
class Mapping(Checked):
    """A mapping's TOML file.

    ``stems``: stem -> glob patterns on a file's name within its track's folder, without suffix
    ("bass", "guitar/*"; ``*`` matches "/" too, case counts). ``splits``: the folders of tracks in
    the source; without it the source holds the tracks. ``inside``: a folder of the source that
    holds all of that, where it is there. ``streams``: names of the streams of sound in a file
    ``<track>.stem.mp4``, in order, for the patterns; without it such files are no tracks.
    ``listing``: a JSON file in every track that names its files, in MoisesDB's form; files that it
    does not name are ignored, as MoisesDB's own reader ignores them.
    """

    stems: Annotated[dict[str, Any], filled("{name}: name at least one")]
    splits: tuple[str, ...] = ()
    inside: str = ""
    streams: Annotated[tuple[str, ...], _DISTINCT] = ()
    listing: str = ""

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
    return found


def plan(mapping: Mapping, track: Path) -> Plan:
    """The sources of each stem in the folder ``track``, or in the file of streams ``track``.

    A mixture beside the stems is left out. Raises UserError for a file that two stems claim, a
    listing that cannot be read, and a track without a file of any stem.
    """
    stems = ", ".join(mapping.stems)
    if track.is_file():
        there = {name: Source(name, stream=k) for k, name in enumerate(mapping.streams)}
        return _assign(mapping, track, there, [], f"{track}: holds no stream of {stems}")
    found, decisions = find_audio(track)
    refusal = f"{track}: holds no wav or flac file of {stems}"
    if mapping.listing:
        listed = _listed(track / mapping.listing)
        if listed and not listed & found.keys():
            refusal += lost("the folder", len(listed), mapping.listing)
        for name in sorted(listed - found.keys()):
            decisions.append(Decision(name, "missing", f"{mapping.listing} lists it"))
        for name in sorted(found.keys() - listed):
            why = f"{mapping.listing} does not list it"
            decisions.append(Decision(found.pop(name), "ignored", why))
    there = {name: Source(path) for name, path in found.items()}
    return _assign(mapping, track, there, decisions, refusal)


def _assign(
    mapping: Mapping,
    track: Path,
    there: dict[str, Source],
    decisions: list[Decision],
    refusal: str,
) -> Plan:
    """The plan of sources by name. Raises UserError(refusal) if they are of no stem."""
    stems: dict[str, list[Source]] = {stem: [] for stem in mapping.stems}
    for name, source in there.items():
        claims = [
            stem
            for stem, patterns in mapping.stems.items()
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        if len(claims) > 1:
            where = source.file(track)
            raise UserError(f"{where}: matches {' and '.join(claims)}; mend the mapping")
        if claims:
            stems[claims[0]].append(source)
        elif name not in MIXTURES:
            decisions.append(Decision(source.path, "ignored", "matches no stem"))
    if not any(stems.values()):
        raise UserError(refusal)
    return Plan({k: tuple(sorted(v)) for k, v in stems.items()}, tuple(sorted(decisions)))


def _listed(path: Path) -> set[str]:
    """Names of the files in MoisesDB's ``data.json``: ``<stemName>/<id of a track>``."""
    data = read_description(path)
    try:
        return {
            f"{stem['stemName']}/{part['id']}"
            for stem in json.loads(data)["stems"]
            for part in stem["tracks"]
        }
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: is no listing in MoisesDB's form; fetch it again") from None
