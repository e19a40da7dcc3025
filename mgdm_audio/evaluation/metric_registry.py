"""The metrics by name: each is a function and an entry of ``METRICS``.

Users add metrics with ``METRICS.register`` or an entry point, see ``mgdm_audio.registry``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from statistics import fmean
from typing import Any

import numpy as np
from torch import Tensor

from mgdm_audio.config import nearest
from mgdm_audio.digest import hash_own_code
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.bss_eval import (
    NAMES,
    bss_eval,
    median_over_frames,
    museval_metrics,
    to_museval,
)
from mgdm_audio.evaluation.metrics import (
    by_activity,
    sdr,
    si_sdr,
    si_sdr_improvement,
    why_none,
)
from mgdm_audio.evaluation.score_table import mean_over_tracks, median_over_tracks
from mgdm_audio.evaluation.spectral import log_mel_l1, multi_resolution_stft
from mgdm_audio.registry import Registry

Entry = dict[str, Any]
"""A track's scores as JSON values: column -> {stem: score or None, "all": their mean}. Optional
entries are ``skipped``, why the track has no score, and ``unscored``, {stem: why it has none}."""

_OVER_TRACKS = {"mean": mean_over_tracks, "median": median_over_tracks}


@dataclass(frozen=True)
class Metric:
    """A metric scores stems with ``compute(estimates, references, sample_rate, stems)``.

    Estimates and references are [stem, channel, time] at ``sample_rate`` Hz; a stem without a score
    has None. Stored scores are computed again after a change of ``revision``, of the version of
    ``library``, or of the user's own file that defines ``compute``.
    """

    columns: dict[str, str]  # name -> title with the unit
    compute: Callable[[Tensor, Tensor, int, list[str]], Entry]  # returns a track's scores
    revision: int = 1  # increased when ``compute`` changes
    library: str | None = None  # the distribution that computes the scores, if any
    over_tracks: str = "mean"  # the summary over tracks, "mean" or "median"

    @property
    def version(self) -> str:
        library = f" {self.library} {version(self.library)}" if self.library else ""
        own = hash_own_code(self.compute)
        return f"{self.revision}{library}{f' {own}' if own else ''}"

    def summarise(self, tracks: list[dict[str, float]]) -> dict[str, Any]:
        return _OVER_TRACKS[self.over_tracks](tracks)


def find_metrics(names: list[str]) -> dict[str, Metric]:
    """Returns the metrics of these names in their order, without duplicates.

    Raises UserError for unknown names, for none, and for two metrics that have a column in common.
    """
    if not names:
        raise UserError(f"no metrics are named{nearest('', METRICS)}")
    found = {name: METRICS.find(name) for name in names}
    owners = dict.fromkeys(("windows", "skipped", "unscored", "museval"), "every metric")
    for name, metric in found.items():
        if metric.library == "museval":
            museval_metrics()
        for column in metric.columns:
            if column in owners:
                raise UserError(
                    f"metric {name!r}: column {column!r} belongs to {owners[column]} too"
                )
            owners[column] = f"metric {name!r}"
    return found


def _row(stems: list[str], values: list[float | None]) -> dict[str, float | None]:
    kept = [value for value in values if value is not None]
    return {**dict(zip(stems, values, strict=True)), "all": fmean(kept) if kept else None}


def _si_sdr_improvement(
    estimates: Tensor, references: Tensor, sample_rate: int, stems: list[str]
) -> Entry:
    gains = si_sdr_improvement(estimates, references, sample_rate)
    if not len(gains):
        return {"windows": 0, "skipped": why_none(references.shape[-1], sample_rate)}
    return {"si_sdri": _row(stems, gains.mean(0).tolist()), "windows": len(gains)}


def _by_activity(
    estimates: Tensor, references: Tensor, sample_rate: int, stems: list[str]
) -> Entry:
    """Averages over the windows in which a stem is active, and over those in which it is silent."""
    entry: Entry = {}
    for column, values in zip(
        ("sounding", "leak"), by_activity(estimates, references, sample_rate), strict=True
    ):
        means = values.nanmean(0).tolist()  # NaN over no window
        entry[column] = _row(stems, [None if math.isnan(v) else v for v in means])
    return entry


def _whole_track(column: str, ratio: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Entry]:
    """Returns the metric of a ratio over whole tracks, with all channels as one vector."""

    def compute(estimates: Tensor, references: Tensor, sample_rate: int, stems: list[str]) -> Entry:
        values: list[float | None] = []
        unscored = {}
        for stem, e, s in zip(stems, estimates, references, strict=True):
            if s.any():
                values.append(float(ratio(e.flatten(), s.flatten())))
            else:
                values.append(None)
                unscored[stem] = "silent reference"
        return {column: _row(stems, values), "unscored": unscored}

    return compute


def _mel(estimates: Tensor, references: Tensor, sample_rate: int, stems: list[str]) -> Entry:
    return {"mel": _row(stems, log_mel_l1(estimates, references, sample_rate).tolist())}


def _mr_stft(estimates: Tensor, references: Tensor, sample_rate: int, stems: list[str]) -> Entry:
    values = multi_resolution_stft(estimates, references).tolist()
    silent = [stem for stem, value in zip(stems, values, strict=True) if math.isnan(value)]
    row = _row(stems, [None if math.isnan(value) else value for value in values])
    return {"mr_stft": row, "unscored": dict.fromkeys(silent, "silent reference")}


def _bss_eval(estimates: Tensor, references: Tensor, sample_rate: int, stems: list[str]) -> Entry:
    values, why = bss_eval(estimates, references, sample_rate)
    store = to_museval(values, stems)
    medians = {f"bss_{n.lower()}": _row(stems, median_over_frames(store, n)) for n in NAMES}
    for k in range(len(stems)):
        if np.isnan(values["SDR"][k]).all():
            why.setdefault(k, "no second in which all stems sound")
        elif np.isposinf(values["SDR"][k]).all():
            why.setdefault(k, "no error at all")
    return {**medians, "unscored": {stems[k]: why[k] for k in sorted(why)}, "museval": store}


def _fault(value: Any) -> str | None:
    if not isinstance(value, Metric):
        return "is not a Metric"
    return None if value.over_tracks in _OVER_TRACKS else "has over_tracks not mean or median"


_BUILT_IN = {
    "si-sdri": Metric({"si_sdri": "SI-SDRi, dB"}, _si_sdr_improvement),
    "activity": Metric(
        {"sounding": "SI-SDRi where active, dB", "leak": "leakage where silent, dB"},
        _by_activity,
    ),
    "si-sdr": Metric({"si_sdr": "SI-SDR, dB"}, _whole_track("si_sdr", si_sdr)),
    "sdr": Metric({"sdr": "SDR, dB"}, _whole_track("sdr", sdr)),
    "bss": Metric(
        {f"bss_{name.lower()}": f"BSS {name}, dB" for name in NAMES},
        _bss_eval,
        library="museval",
        over_tracks="median",
    ),
    "mel": Metric({"mel": "log-mel L1, dB"}, _mel),
    "mr-stft": Metric({"mr_stft": "multi-resolution STFT"}, _mr_stft),
}
METRICS = Registry("metric", "mgdm_audio.metrics", _fault, _BUILT_IN)
