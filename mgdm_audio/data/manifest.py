"""The manifest of prepared stems, ``manifest.jsonl``: one line a track, sorted by split and track.

A line is the record that stands beside the track's stems too (``<split>/<track>/track.json``):

    {"track", "split", "source": its folder in the data set, "sample_rate": Hz, "frames",
     "stems": {stem: {"path", "sha256", "frames", "subtype", "sources":
               [{"path", "program", "bytes", "mtime_ns": when it was last changed, "sha256",
                 "sample_rate", "frames", "channels"}]}},
     "decisions": [{"of", "what", "why"}], "fingerprint": of the sources and the options}

Paths of stems are relative to the manifest, those of sources to the track's folder. Where a track
is one file, "source" is that file, and the sources of a stem are streams of it: "path" is the name,
a further key "stream" the number, from 0.
"""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from mgdm_audio import atomic
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.reading import parse, read_bytes, read_json

MANIFEST, RECORD = "manifest.jsonl", "track.json"
Record = dict[str, Any]


def to_line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def load_record(folder: Path) -> Record | None:
    """The record of the prepared track in ``folder``; None where it is missing or damaged."""
    try:
        return _checked(read_json(folder / RECORD))
    except (OSError, ValueError):
        return None


def is_intact(record: Record, root: Path) -> bool:
    """Returns whether every stem's file under ``root`` has the recorded bytes."""
    try:
        return all(hash_file(root / s["path"]) == s["sha256"] for s in record["stems"].values())
    except UserError:
        return False


def is_of(record: Record, files: dict[tuple[str, int | None], Path]) -> bool:
    """Returns whether the record's sources, by (path, stream), still have the same content.

    Size and time of the last change tell; where they differ, the bytes do.
    """
    try:
        sources = {
            (source["path"], source.get("stream")): source
            for stem in record["stems"].values()
            for source in stem["sources"]
        }
        return sources.keys() == files.keys() and all(
            _is_unchanged(files[key], source) for key, source in sources.items()
        )
    except (KeyError, TypeError, OSError, UserError):  # another version's record, or it is gone
        return False


def _is_unchanged(file: Path, source: dict[str, Any]) -> bool:
    found = file.stat()
    if (found.st_size, found.st_mtime_ns) == (source["bytes"], source["mtime_ns"]):
        return True
    return found.st_size == source["bytes"] and hash_file(file) == source["sha256"]


def write(root: Path, records: Iterable[Record]) -> Path:
    """Write ``root/manifest.jsonl``; returns its path."""
    lines = [to_line(r) for r in sorted(records, key=lambda r: (r["split"], r["track"]))]
    atomic.write_text(root / MANIFEST, "".join(lines))
    return root / MANIFEST


def read(path: Path, split: str) -> dict[str, dict[str, Path]]:
    """Track -> stem -> file, of one split. Raises UserError for a damaged manifest or no track."""
    try:
        lines = read_bytes(path).splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); prepare the data") from None
    found: dict[str, dict[str, Path]] = {}
    splits = set()
    for number, line in enumerate(lines, 1):
        try:
            record = _checked(parse(line))
        except ValueError:
            raise UserError(f"{path}: line {number} is damaged; prepare the data again") from None
        splits.add(record["split"])
        if record["split"] == split:
            files = {stem: path.parent / entry["path"] for stem, entry in record["stems"].items()}
            found[record["track"]] = files
    if not found:
        there = ", ".join(sorted(splits)) or "none"
        raise UserError(f"{path}: has no track of split {split!r}; its splits: {there}")
    return found


def _checked(record: Any) -> Record:
    """``record``, if it has what its readers rely on; ValueError otherwise."""
    try:
        texts = [record["track"], record["split"], record["fingerprint"]]
        if any(PurePosixPath(name).name != name for name in texts[:2]):
            raise ValueError("its track or split is no name of a folder")
        for entry in record["stems"].values():
            path = PurePosixPath(entry["path"])
            # A manifest names its own files alone.
            if path.is_absolute() or ".." in path.parts or "\0" in entry["path"]:
                raise ValueError(f"{path} is outside")
            texts.append(entry["sha256"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no record of a track: {error}") from None
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("no record of a track")
    return record
