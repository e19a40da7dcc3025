"""Scores of many tracks -> one number for each stem, with its 95 % interval."""

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev
from typing import Any

Scores = dict[str, float]  # stem -> score of a track; "all" is their mean


def summarise(tracks: list[Scores]) -> dict[str, Any]:
    """``mean_over_tracks`` of SI-SDR improvements: its ``value`` is called ``si_sdri``."""
    result = mean_over_tracks(tracks)
    return {"si_sdri": result["value"], "n": result["n"], "interval_95": result["interval_95"]}


def mean_over_tracks(tracks: list[Scores]) -> dict[str, Any]:
    """Means over tracks, with their count and the normal 95 % interval [low, high] of the mean.

    The unit is the track: windows of one track are too alike to count one by one. The interval is
    None for a single track. A stem that some tracks lack is averaged over those that have it.
    """
    stems = _stems(tracks)
    means, intervals = {}, {}
    for stem in [*stems, "all"]:
        values = [track[stem] for track in tracks if stem in track]
        means[stem] = fmean(values)
        half = 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        intervals[stem] = None if half is None else [means[stem] - half, means[stem] + half]
    means["all"] = fmean(means[stem] for stem in stems)
    return {"value": means, "n": len(tracks), "interval_95": intervals}


def median_over_tracks(tracks: list[Scores]) -> dict[str, Any]:
    """Medians over tracks, with their count and ``median_interval``; all: the mean of the stems'.

    That mean of medians has no interval (None).
    """
    values, intervals = {}, {}
    for stem in _stems(tracks):
        own = [track[stem] for track in tracks if stem in track]
        values[stem], intervals[stem] = median(own), median_interval(own)
    values["all"], intervals["all"] = fmean(values.values()), None
    return {"value": values, "n": len(tracks), "interval_95": intervals}


def median_interval(values: Sequence[float]) -> list[float] | None:
    """The shortest [k-th smallest, k-th largest] that covers the median with 95 % or more.

    Free of assumptions about the distribution: the number of values below the median is binomial
    (n, 1/2), so that the two miss it with probability 2 P(Bin(n, 1/2) < k). None for less than six
    values, whose own range covers it too seldom.
    """
    n, missed, k = len(values), 0, 0
    while 2 * (missed + math.comb(n, k)) <= 0.05 * 2**n:
        missed += math.comb(n, k)
        k += 1
    ordered = sorted(values)
    return [ordered[k - 1], ordered[n - k]] if k else None


def _stems(tracks: list[Scores]) -> list[str]:
    return list(dict.fromkeys(stem for track in tracks for stem in track if stem != "all"))
