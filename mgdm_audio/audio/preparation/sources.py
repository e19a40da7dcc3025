"""The tracks of a data set: folders in its splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError

ALL = "all"  # name of the one split of a data set that has none


@dataclass(frozen=True)
class Track:
    """One track: its split, its name, its folder, and other splits that hold a track so named."""

    split: str
    name: str
    folder: Path  # or the one file that holds all of its stems
    source: str  # the folder or the file relative to the data set, with "/"
    elsewhere: tuple[str, ...] = ()


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
