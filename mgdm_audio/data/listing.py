"""What the metadata of a published track say of its files: what each one contains.

The labels of a file are what patterns of a mapping match (``mapping.Mapping``).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgdm_audio.data.plan import read_description
from mgdm_audio.errors import UserError


@dataclass(frozen=True)
class Listing:
    """The files of a track that its metadata name, without suffix, relative to the track."""

    file: Path  # the metadata
    labels: dict[str, tuple[str, ...]]  # file -> what it contains
    bleeding: frozenset[str]  # files in which other instruments can be heard
    inside: str = "."  # the folder of the track that contains all of them


def moisesdb(track: Path) -> Listing:
    """``data.json`` of MoisesDB (Pereira et al. 2023), which has two levels.

    The file ``drums/<id>.wav`` has the labels ``drums/<id>`` and ``drums/kick_drum``, the second
    from its ``trackType``. Raises UserError for a file that cannot be read or has another form.
    """
    path = track / "data.json"
    labels: dict[str, tuple[str, ...]] = {}
    bleeding = set()
    data = read_description(path)
    try:
        for stem in json.loads(data)["stems"]:
            for part in stem["tracks"]:
                name = f"{stem['stemName']}/{part['id']}"
                kind = part.get("trackType")
                labels[name] = (name, f"{stem['stemName']}/{kind}") if kind else (name,)
                if part.get("has_bleed") is True:
                    bleeding.add(name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: is no listing in MoisesDB's form; fetch it again") from None
    return Listing(path, labels, frozenset(bleeding))


def medleydb(track: Path, *, raw: bool = False) -> Listing:
    """``<track>_METADATA.yaml`` of MedleyDB (Bittner et al. 2014, 2016), of its stems or raw files.

    A file has the labels of its instruments, such as "electric bass"; some have several. The
    metadata are in the track's folder, or in ``Metadata`` beside the folder of the tracks, as in
    the repository marl/medleydb. Raises UserError as ``moisesdb`` does, and without PyYAML.
    """
    name = f"{track.name}_METADATA.yaml"
    path = track / name
    if not path.is_file() and (track.parent.parent / "Metadata" / name).is_file():
        path = track.parent.parent / "Metadata" / name
    labels: dict[str, tuple[str, ...]] = {}
    data = load_yaml(path, "MedleyDB's metadata")
    try:
        folder = _name(data["raw_dir" if raw else "stem_dir"])
        for stem in data["stems"].values():
            for part in stem["raw"].values() if raw else (stem,):
                file = Path(_name(part["filename"])).with_suffix("").name
                instruments = part["instrument"]
                several = instruments if isinstance(instruments, list) else [instruments]
                labels[f"{folder}/{file}"] = tuple(_name(one, "/") for one in several)
        # YAML 1.1 reads an unquoted "yes" as true; the published files quote it.
        bleeds = data["has_bleed"] in ("yes", True)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(f"{path}: is no metadata in MedleyDB's form; fetch it again") from None
    return Listing(path, labels, frozenset(labels if bleeds else ()), folder)


def _name(value: Any, allowed: str = "") -> str:
    """A text that is one part of a path, apart from the characters ``allowed``; or ValueError."""
    text = value if isinstance(value, str) else ""
    plain = text.replace(allowed, "") if allowed else text
    if Path(plain).name != plain or plain in ("", ".."):
        raise ValueError(f"{value!r} is no name")
    return text


def medleydb_raw(track: Path) -> Listing:
    """Reads as ``medleydb`` does, of the raw files: one for every microphone."""
    return medleydb(track, raw=True)


LISTINGS: dict[str, Callable[[Path], Listing]] = {
    "moisesdb": moisesdb,
    "medleydb": medleydb,
    "medleydb-raw": medleydb_raw,
}


def require_yaml(what: str) -> None:
    """Raise UserError, naming the extra, where PyYAML is not installed."""
    try:
        import yaml  # noqa: F401
    except ImportError:
        raise UserError(f"reading {what} needs PyYAML: pip install 'mgdm_audio[data]'") from None


def load_yaml(path: Path, what: str) -> dict[str, Any]:
    """The table in a YAML file without tags and aliases; empty where it contains something else.

    ``what``: the file's name in the message of missing PyYAML. Raises UserError where the file
    cannot be read or is damaged.
    """
    require_yaml(what)
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                # They make gigabytes of a few lines, and no published metadata have any.
                raise yaml.YAMLError("an alias")
            return super().compose_node(parent, index)

    data = read_description(path)
    try:
        table = yaml.load(data, Plain)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        raise UserError(f"{path}: is damaged, no plain YAML; fetch it again") from None
    return table if isinstance(table, dict) else {}
