"""Tracks of the data sets that mirdata (Bittner et al. 2019) loads as multitracks.

mirdata names the files of a multitrack's parts and their instruments; a mapping says which of them
sum to which stem. Nothing is downloaded, and no sound is read by mirdata.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgdm_audio.config import nearest
from mgdm_audio.data.mapping import Labelled, Mapping, assign
from mgdm_audio.data.plan import ALL, Decision, Plan, Source, Track
from mgdm_audio.errors import UserError


def tracks(
    mapping: Mapping, home: Path, name: str, version: str = "default", splits: Sequence[str] = ()
) -> list[Track]:
    """The multitracks of mirdata's data set ``name`` in the folder ``home``, by split and name.

    ``version``: of the data set, as mirdata names it. ``splits``: those to take; without it, all. A
    data set without splits is one split: "all", or the one name in ``splits``. Patterns of the
    mapping match a part's ``instrument`` and ``mixing_group``, where mirdata has them, and the rest
    of its id after the multitrack's. A multitrack that cannot be planned has its refusal in
    ``Track.planned``. Raises UserError without mirdata, for an unknown data set, version or split,
    for one without multitracks, and where its index was not downloaded.
    """
    if not home.is_dir():
        raise UserError(f"{home}: is {'no folder' if home.exists() else 'missing'}; check the path")
    dataset = _dataset(name, home, version)
    found = []
    for identifier in sorted(dataset.mtrack_ids):
        multitrack = dataset.multitrack(identifier)
        split: str | None = getattr(multitrack, "split", None)
        try:
            planned: Plan | UserError = _plan(mapping, home, multitrack)
        except OSError as error:
            planned = UserError(f"{home}: {identifier}: {error}; fetch the data set again")
        except UserError as error:
            planned = error
        found.append((split, identifier, planned))
    there = {split for split, *_ in found if split}
    if there:
        for split in splits:
            if split not in there:
                raise UserError(f"{home}: has no split {split!r}{nearest(split, sorted(there))}")
    elif len(splits) > 1:
        raise UserError(f"{home}: {name} has no splits; name one")
    alone = splits[0] if splits else ALL
    return sorted(
        (
            Track(split or alone, identifier, home, identifier, planned=planned)
            for split, identifier, planned in found
            if not there or not splits or split in splits
        ),
        key=lambda track: (track.split, track.name),
    )


def _dataset(name: str, home: Path, version: str) -> Any:
    try:
        import mirdata
    except ImportError:
        raise UserError(
            "reading a data set by mirdata needs it: pip install 'mgdm_audio[mirdata]'"
        ) from None
    if name not in mirdata.list_datasets():
        known = mirdata.list_datasets()
        raise UserError(f"mirdata has no data set {name!r}{nearest(name, known)}")
    try:
        dataset = mirdata.initialize(name, data_home=str(home), version=version)
        if dataset._multitrack_class is None:
            raise UserError(f"mirdata has no multitracks of {name}; it has no stems to prepare")
        dataset.mtrack_ids  # noqa: B018  (reads the index)
    except ValueError as error:
        raise UserError(f"mirdata: {name}: {error}") from None
    except FileNotFoundError:
        raise UserError(
            f'mirdata: the index of {name} is missing; fetch it: python -c "import mirdata; '
            f"mirdata.initialize('{name}', version='{version}').download(['index'])\""
        ) from None
    return dataset


def _plan(mapping: Mapping, home: Path, multitrack: Any) -> Plan:
    """The sources of each stem. Raises UserError and OSError where metadata or all files lack."""
    kind = multitrack.track_audio_property  # "audio", or "audio_dyn" where there are several
    there: Labelled = {}
    decisions = []
    for identifier, part in multitrack.tracks.items():
        paths = getattr(part, f"{kind}_paths", None) or [getattr(part, f"{kind}_path", None)]
        labels = tuple(
            dict.fromkeys(
                label
                for label in (
                    getattr(part, "instrument", None),
                    getattr(part, "mixing_group", None),
                    identifier.removeprefix(multitrack.mtrack_id).lstrip("-_"),
                )
                if isinstance(label, str) and label
            )
        )
        for path in filter(None, paths):
            file = Path(path)
            name = file.relative_to(home).as_posix()
            if file.is_file():
                there[name] = (Source(name), labels)
            else:
                decisions.append(Decision(name, "missing", f"mirdata lists it as {labels[0]}"))
        if not any(paths):
            decisions.append(Decision(identifier, "unrendered", "mirdata has no file of it"))
    stems = ", ".join(mapping.stems)
    refusal = f"{home}: {multitrack.mtrack_id}: has no file of {stems}"
    if not there and decisions:
        refusal += f": {len(decisions)} files that mirdata lists are missing; fetch it again"
    return assign(mapping, home, there, decisions, refusal)
