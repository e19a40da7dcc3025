"""What is scored: the stems of separated tracks, which are means of draws, or each draw."""

from __future__ import annotations

from pathlib import Path

from mgdm_audio.audio.files import find_stems
from mgdm_audio.errors import UserError
from mgdm_audio.output.layout import DRAWS, RECORD
from mgdm_audio.reading import read_json
from mgdm_audio.samplers.presets.preset import is_mean

Stems = dict[str, Path]  # stem -> file
Tracks = dict[str, Stems]  # track -> its stems
Pairs = dict[str, tuple[Stems, list[Stems]]]
"""Track -> its true stems, and the estimates of the same stems, several with draws."""


def pair(reference: Path, estimate: Path, truth: Tracks, found: Tracks, draws: bool) -> Pairs:
    """Returns the pairs of the tracks ``truth`` in ``reference`` and ``found`` in ``estimate``.

    Raises UserError for a track, a stem or the draws that are missing, and for a single stem.
    """
    pairs = {}
    for track, files in truth.items():
        if track not in found:
            raise UserError(f"{estimate / track}: missing, {reference} has it; separate it first")
        there = _draws(estimate / track) if draws else {estimate / track: found[track]}
        for folder, stems in there.items():
            for stem in files:
                if stem not in stems:
                    raise UserError(
                        f"{folder}: has no stem {stem!r}, which the true ones have; add it"
                    )
        if len(files) < 2:
            raise UserError(f"{reference / track}: has one stem; separation needs two or more")
        pairs[track] = (files, [{s: stems[s] for s in files} for stems in there.values()])
    return pairs


def _draws(track: Path) -> dict[Path, Stems]:
    """The folders of a track's draws. Raises UserError where there are none."""
    if not (folders := [p for p in sorted((track / DRAWS).glob("*")) if p.is_dir()]):
        raise UserError(f"{track / DRAWS}: has no draws; separate with --keep-samples")
    return {p: find_stems(p) for p in folders}


def describe(estimate: Path, pairs: Pairs, draws: bool) -> str:
    """What is scored, for the tables; empty where it is not recorded."""
    try:
        records = {track: read_json(estimate / track / f"{RECORD}.json") for track in pairs}
        counts = {
            len(founds) if draws else int(records[track]["draws"])
            for track, (_, founds) in pairs.items()
        }
        means = all(is_mean(record.get("options", {})) for record in records.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ""
    count = " to ".join(map(str, sorted({min(counts), max(counts)})))
    one = "the mean by one call" if means else "one draw"
    mean = one if counts == {1} else f"the mean of {count} draws"
    return f"each of {count} draws by itself" if draws else mean
