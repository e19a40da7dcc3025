"""One track: its files -> all its metrics, of which those in the cache are not computed again."""

import json
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from mgdm_audio import atomic
from mgdm_audio.audio.io import Audio, read
from mgdm_audio.audio.scoring.metric_registry import Entry, find_metrics
from mgdm_audio.digest import hash_file, hash_json
from mgdm_audio.errors import UserError

Stems = dict[str, Path]  # stem -> file


def score_track(
    truth: Stems, found: Stems, names: list[str], cache: Path | None
) -> dict[str, Entry]:
    """Metric -> its entry for the estimates ``found`` of the stems ``truth``, named alike.

    ``cache``: a folder with a file for each track and metric, named by the hash of the metric's
    version and of all the stems' bytes; read, and added to as soon as a metric is computed.
    Computed on one thread, since sums in another order would differ in the last digits. Raises
    UserError for files that cannot be read, hold a NaN, or differ in length, rate or channels.
    """
    hashes = {s: [hash_file(truth[s]), hash_file(found[s])] for s in truth} if cache else {}
    audio: tuple[Tensor, Tensor, int] | None = None
    entries = {}
    for name, metric in find_metrics(names).items():
        path = None
        if cache is not None:
            key = {"metric": name, "version": metric.version, "stems": hashes}
            path = cache / f"{hash_json(key)}.json"
            if entry := _load(path):
                entries[name] = entry
                continue
        audio = audio or _read(truth, found)
        with threadpool_limits(1):
            entries[name] = metric.compute(*audio, list(truth))
        if path is not None:
            atomic.write_text(path, json.dumps(entries[name], allow_nan=False))
    return entries


def _load(path: Path) -> Entry | None:
    """What is stored at ``path``; None where there is nothing that can be read."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) else None


def _read(truth: Stems, found: Stems) -> tuple[Tensor, Tensor, int]:
    """Estimates and references, both [stem, channel, time], and their rate in Hz."""
    first: tuple[Path, Audio] | None = None
    loaded: dict[Path, Tensor] = {}
    for path in [*truth.values(), *found.values()]:
        audio = read(path)
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
