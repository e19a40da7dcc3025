"""Scores folders of separated tracks against folders of true stems, track by track."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from mgdm_audio import atomic
from mgdm_audio.atomic import write_text
from mgdm_audio.audio.files import find_stems
from mgdm_audio.audio.io import Audio, read
from mgdm_audio.digest import hash_file, hash_json
from mgdm_audio.engine.processes import run_jobs
from mgdm_audio.errors import UserError, recorded
from mgdm_audio.evaluation.bss_eval import museval_text
from mgdm_audio.evaluation.estimates import Stems, Tracks, describe, pair
from mgdm_audio.evaluation.metric_registry import Entry, Metric, find_metrics
from mgdm_audio.evaluation.score_table import summarise
from mgdm_audio.output.result_folder import require_writable
from mgdm_audio.reading import read_json

FAILED = "failed"  # key of a track that cannot be scored -> why


def find_tracks(folder: Path) -> Tracks:
    """Finds the stems in ``folder/<track>``, see ``find_stems``, without hidden tracks.

    Raises UserError if there is no such track, and for a stem that exists in two formats.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: is {'not a folder' if folder.exists() else 'missing'}; check the path"
        )
    found: Tracks = {}
    for track in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."):
        if stems := find_stems(track):
            found[track.name] = stems
    if not found:
        raise UserError(
            f"{folder}: contains no <track>/<stem>.wav, .flac or the like; check its layout"
        )
    return found


def track_number(track: str) -> int:
    """Returns the last nine digits of the name, 0 if none: the track's seed in the protocol."""
    return int(re.sub(r"\D", "", track)[-9:] or 0)


def score(
    reference: Path,
    estimate: Path,
    metrics: Sequence[str] = ("si-sdri",),
    *,
    cache: Path | None = None,
    nj: int = 1,
    executor: str = "local",
    museval: Path | None = None,
    log: Path | None = None,
    draws: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Scores every stem of every track under ``reference`` and returns JSON values.

    Both folders contain tracks as ``find_tracks`` has them; what only ``estimate`` has is ignored.
    The mixture is the sum of the reference stems. Stereo stems are scored as one vector of both
    channels, except by ``bss`` and ``mel``.

    ``metrics``: names in ``METRICS``. ``cache``: see ``score_track``; scores that are in it are not
    computed again. ``nj``: so many tracks at a time, each in a process; a script that asks for
    more than 1 must be importable, with its work under ``if __name__ == "__main__"``. ``executor``:
    a cluster instead, see ``find_executor``. ``museval``: a folder for ``test/<track>.json``, which
    ``museval.EvalStore().add_eval_dir`` reads. ``log``: a folder for tracebacks. ``draws``: score
    each posterior sample, the files ``<track>/samples/<number>/<stem>`` of ``estimate``, and
    average the scores of a track, not its stems. ``on_progress(done, total)`` follows each track.

    The result has ``tracks``, {track: {column: {stem: score or None, "all": mean}, ...}};
    ``summaries``, {column: {"metric", "title", "over_tracks", "value": {stem: score}, "n",
    "interval_95"}} of the columns with a score; with the metric si-sdri, ``summary``:
    {"si_sdri": {stem: dB}, "n", "interval_95"}; ``estimates``, what was scored if it is recorded.
    A track without a scorable window has "windows": 0 and "skipped": why in place of "si_sdri",
    ``unscored`` says why a stem has None. A track that cannot be read, or whose files differ in
    shape or rate, has "failed": why.

    Raises UserError for a track or a stem that is missing, before any scoring, and where no track
    can be scored.
    """
    chosen = find_metrics(list(metrics))
    if museval is not None and "bss" not in chosen:
        raise UserError(f"{museval}: museval's files contain the metric bss; add it to the metrics")
    if museval is not None and draws:
        raise UserError(f"{museval}: museval's files are of one estimate a track; without draws")
    pairs = pair(reference, estimate, find_tracks(reference), find_tracks(estimate), draws)
    for folder in filter(None, (cache, museval and museval / "test")):
        require_writable(folder)
    jobs = {
        track: partial(_attempt, track, truth, found, list(chosen), cache, log)
        for track, (truth, found) in pairs.items()
    }
    tracks: dict[str, Entry] = {}
    stores = {}
    for track, entries in run_jobs(jobs, nj, executor):
        stores[track] = entries.get("bss", {}).pop("museval", None)
        tracks[track] = _merge(entries)
        if on_progress:
            on_progress(len(tracks), len(jobs))
    _write_museval(museval, stores)
    found = {"estimates": what} if (what := describe(estimate, pairs, draws)) else {}
    return _summarised(reference, chosen, tracks) | found


def _write_museval(folder: Path | None, stores: dict[str, Any]) -> None:
    """The frames of the tracks that have some."""
    for track, store in stores.items():
        if folder is not None and store is not None:
            write_text(folder / "test" / f"{track}.json", museval_text(store))


def _summarised(reference: Path, metrics: dict[str, Metric], tracks: dict[str, Entry]) -> Entry:
    """The result of ``score``. Raises UserError where no track has a score."""
    summaries = _summaries(metrics, tracks)
    if not summaries:
        name, first = next(iter(tracks.items()))
        raise UserError(f"{reference}: no track can be scored; {name}: {_why_nothing(first)}")
    result: dict[str, Any] = {"tracks": tracks}
    if "si_sdri" in summaries:
        result["summary"] = summarise([t["si_sdri"] for t in tracks.values() if "si_sdri" in t])
    return result | {"summaries": summaries}


def _merge(entries: dict[str, Any]) -> Entry:
    """A track's entries as one, with ``unscored`` by metric."""
    if FAILED in entries:
        return entries
    unscored = {name: e["unscored"] for name, e in entries.items() if e.get("unscored")}
    merged: Entry = {}
    for entry in entries.values():
        merged |= {key: value for key, value in entry.items() if key != "unscored"}
    return merged | ({"unscored": unscored} if unscored else {})


def _summaries(metrics: dict[str, Metric], tracks: dict[str, Entry]) -> dict[str, Any]:
    summaries = {}
    for name, metric in metrics.items():
        for column, title in metric.columns.items():
            rows = [
                {stem: value for stem, value in track[column].items() if value is not None}
                for track in tracks.values()
                if column in track
            ]
            if scored := [row for row in rows if row]:
                head = {"metric": name, "title": title, "over_tracks": metric.over_tracks}
                summaries[column] = head | metric.summarise(scored)
    return summaries


def _why_nothing(entry: Entry) -> str:
    if FAILED in entry:
        return str(entry[FAILED])
    reasons = [why for stems in entry.get("unscored", {}).values() for why in stems.values()]
    return str(entry.get("skipped") or next(iter(reasons), "no metric has a value"))


def _attempt(
    track: str,
    truth: Stems,
    founds: list[Stems],
    names: list[str],
    cache: Path | None,
    log: Path | None,
) -> dict[str, Any]:
    """``score_track``, the mean over several, or {FAILED: why not}: it stops no other track."""
    try:
        several = [score_track(truth, found, names, cache) for found in founds]
        return several[0] if len(several) == 1 else _average(several)
    except Exception as error:
        return {FAILED: recorded(error, log, track)}


def _average(several: list[dict[str, Entry]]) -> dict[str, Entry]:
    """The entries of a track's draws as one: means of the scores that a stem has."""
    merged = {name: dict(entry) for name, entry in several[0].items()}
    for name, metric in find_metrics(list(merged)).items():
        for column in merged[name].keys() & metric.columns.keys():
            rows = [entries[name].get(column, {}) for entries in several]
            for stem in rows[0]:
                values = [row[stem] for row in rows if row.get(stem) is not None]
                merged[name][column] |= {stem: fmean(values) if values else None}
    return merged


def score_track(
    truth: Stems, found: Stems, names: list[str], cache: Path | None
) -> dict[str, Entry]:
    """Returns metric -> its entry for the estimates ``found`` of the stems ``truth``.

    ``cache``: a folder with a file for each track and metric, named by the hash of the metric's
    version and of all the stems' bytes; it is read first, and written after each metric. One thread
    computes, since sums in another order would differ in the last digits. Raises UserError for
    files that cannot be read, contain a NaN, or differ in length, rate or channels.
    """
    hashes = {s: [hash_file(truth[s]), hash_file(found[s])] for s in truth} if cache else {}
    audio: tuple[Tensor, Tensor, int] | None = None
    entries = {}
    for name, metric in find_metrics(names).items():
        path = None
        if cache is not None:
            key = {"metric": name, "version": metric.version, "stems": hashes}
            path = cache / f"{hash_json(key)}.json"
            if entry := _load(path, metric, list(truth)):
                entries[name] = entry
                continue
        audio = audio or _read(truth, found, hashes)
        with threadpool_limits(1):
            entries[name] = metric.compute(*audio, list(truth))
        if path is not None:
            atomic.write_text(path, json.dumps(entries[name], allow_nan=False))
    return entries


def _load(path: Path, metric: Metric, stems: list[str]) -> Entry | None:
    """What is stored at ``path``; None where that is no entry of the metric, and is computed."""
    try:
        entry = read_json(path)
    except (OSError, ValueError):
        return None
    return entry if _is_entry(entry, metric, stems) else None


def _is_entry(entry: Any, metric: Metric, stems: list[str]) -> bool:
    if not isinstance(entry, dict):
        return False
    for column in metric.columns:
        scores = entry.get(column)
        if scores is None and isinstance(entry.get("skipped"), str):
            continue
        if not isinstance(scores, dict) or not scores.keys() >= set(stems):
            return False
        if not all(type(value) in (int, float, type(None)) for value in scores.values()):
            return False
    unscored = entry.get("unscored", {})
    return isinstance(unscored, dict) and all(isinstance(why, str) for why in unscored.values())


def _read(truth: Stems, found: Stems, hashes: dict[str, list[str]]) -> tuple[Tensor, Tensor, int]:
    """Estimates and references, both [stem, channel, time], and their rate in Hz.

    ``hashes``: stem -> of both files' bytes, where they are known.
    """
    known = {truth[stem]: shas[0] for stem, shas in hashes.items()}
    known |= {found[stem]: shas[1] for stem, shas in hashes.items()}
    first: tuple[Path, Audio] | None = None
    loaded: dict[Path, Tensor] = {}
    for path in [*truth.values(), *found.values()]:
        audio = read(path, damaged="refuse")
        if known.get(path, audio.sha256) != audio.sha256:
            raise UserError(f"{path}: changed while it was read; run again when it is done")
        first = first or (path, audio)
        for what, one, other in (
            ("samples", audio.samples.shape[1], first[1].samples.shape[1]),
            ("Hz", audio.sample_rate, first[1].sample_rate),
            ("channels", audio.samples.shape[0], first[1].samples.shape[0]),
        ):
            if one != other:
                raise UserError(f"{path}: {one} {what}, {first[0]} has {other}; make them equal")
        loaded[path] = audio.samples
    assert first is not None
    estimates, references = (
        torch.stack([loaded[path] for path in files.values()]) for files in (found, truth)
    )
    return estimates, references, first[1].sample_rate
