"""Summarises scores of many tracks by stem, as text for the terminal, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median, stdev
from typing import Any

from mgdm_audio import tables


def to_text(result: dict[str, Any]) -> str:
    """Returns a table of all tracks for every column, with their mean or median and interval."""
    columns = _columns(result)
    names = [summary["title"] for summary in result["summaries"].values()]
    width = max(len(name) for name in [*result["tracks"], *names, "95 % interval"])
    blocks = []
    for column, summary in result["summaries"].items():
        rows: list[tuple[str, list[str] | str]] = [(summary["title"], columns)]
        for track, record in result["tracks"].items():
            if column in record:
                rows.append((track, [_number(record[column].get(stem)) for stem in columns]))
            else:
                rows.append((track, ": ".join(_absence(record))))
        means = [_number(summary["value"].get(stem)) for stem in columns]
        rows.append((f"{summary['over_tracks']} of {summary['n']}", means))
        intervals = [_interval(summary, stem) for stem in columns]
        if any(intervals):
            rows.append(("95 % interval", [interval or "-" for interval in intervals]))
        cells = [[name, *row] for name, row in rows if isinstance(row, list)]
        widths = [max(8, *(len(row[i + 1]) for row in cells)) for i in range(len(columns))]
        lines = []
        for name, row in rows:
            if isinstance(row, list):
                row = "  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True))
            lines.append(f"{name:<{width}}  {row}\n")
        blocks.append("".join(lines))
    skipped = "si_sdri" not in result["summaries"]  # whose table lists skipped tracks itself
    if notes := "".join(_notes(result, skipped)):
        blocks.append(notes)
    return "\n".join(blocks)


def to_markdown(result: dict[str, Any]) -> str:
    """Returns a table with a line per column: mean or median over tracks, and 95 % interval."""
    columns = _columns(result)
    rows = []
    for summary in result["summaries"].values():
        cells = [f"{summary['title']}, {summary['over_tracks']}"]
        for stem in columns:
            interval = _interval(summary, stem)
            if interval.startswith("±"):
                interval = f" ± {interval[1:]}"
            elif interval:
                interval = f" ({interval})"
            cells.append(_number(summary["value"].get(stem)) + interval)
        rows.append([*cells, str(summary["n"])])
    # A blank line makes each note a separate paragraph.
    return "\n".join([tables.table(["", *columns, "tracks"], rows), "", *_notes(result, True)])


def to_csv(result: dict[str, Any]) -> str:
    """Returns a line for every number: each track's, then the mean or median (``over``) of all.

    Unknown values are empty cells; ``note`` gives the reason.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["metric", "over", "track", "stem", "value", "low", "high", "note"])
    for column, summary in result["summaries"].items():
        for track, record in result["tracks"].items():
            why = record.get("unscored", {}).get(summary["metric"], {})
            for stem, value in record.get(column, {}).items():
                row = [column, "track", track, stem, value, None, None, why.get(stem)]
                writer.writerow(row)
            if column not in record:
                writer.writerow([column, "track", track, *[None] * 4, _absence(record)[1]])
        for stem, value in summary["value"].items():
            low, high = summary["interval_95"][stem] or (None, None)
            writer.writerow([column, summary["over_tracks"], None, stem, value, low, high, None])
    return buffer.getvalue()


def _columns(result: dict[str, Any]) -> list[str]:
    summaries = result["summaries"].values()
    return [
        *dict.fromkeys(s for summary in summaries for s in summary["value"] if s != "all"),
        "all",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(summary: dict[str, Any], stem: str) -> str:
    """Returns ± half of a mean's interval, or both ends of a median's, which is asymmetric."""
    interval = summary["interval_95"].get(stem)
    if interval is None:
        return ""
    low, high = interval
    if summary["over_tracks"] == "median":
        return f"{low:.2f}..{high:.2f}"
    return f"±{(high - low) / 2:.2f}"


def _absence(record: dict[str, Any]) -> tuple[str, str]:
    """How a track has no score, and why."""
    kind = "failed" if "failed" in record else "skipped"
    return kind, record[kind]


def _notes(result: dict[str, Any], skipped: bool) -> Iterator[str]:
    """Yields what was scored, and each reason of missing scores with at most three places."""
    if "estimates" in result:
        yield f"scored: {result['estimates']}\n"
    places: dict[tuple[str, str], list[str]] = {}
    for track, record in result["tracks"].items():
        if skipped and "failed" in record:
            yield f"{track} failed: {record['failed']}\n"
        elif skipped and "skipped" in record:
            places.setdefault(("si-sdri", record["skipped"]), []).append(track)
        for metric, stems in record.get("unscored", {}).items():
            for stem, why in stems.items():
                places.setdefault((metric, why), []).append(f"{track}/{stem}")
    for (metric, why), names in places.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{metric} has no score for {', '.join(names[:3])}{more}: {why}\n"


Scores = dict[str, float]  # stem -> score of a track; "all" is their mean


def summarise(tracks: list[Scores]) -> dict[str, Any]:
    """Returns ``mean_over_tracks`` of SI-SDR improvements, with ``value`` named ``si_sdri``."""
    result = mean_over_tracks(tracks)
    return {"si_sdri": result["value"], "n": result["n"], "interval_95": result["interval_95"]}


def mean_over_tracks(tracks: list[Scores]) -> dict[str, Any]:
    """Returns means over tracks, their count and the normal 95 % interval [low, high].

    The unit is the track, since windows of one track are correlated. The interval is None for a
    single track. A stem that some tracks lack is averaged over the others.
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
    """Returns medians over tracks, their count and ``median_interval``.

    "all" is the mean of the stems' medians, whose interval is None.
    """
    values, intervals = {}, {}
    for stem in _stems(tracks):
        own = [track[stem] for track in tracks if stem in track]
        values[stem], intervals[stem] = median(own), median_interval(own)
    values["all"], intervals["all"] = fmean(values.values()), None
    return {"value": values, "n": len(tracks), "interval_95": intervals}


def median_interval(values: Sequence[float]) -> list[float] | None:
    """Returns the shortest [k-th smallest, k-th largest] that covers the median with 95 %.

    It holds for any distribution: the number of values below the median is binomial (n, 1/2), so
    the interval misses it with probability 2 P(Bin(n, 1/2) < k). For fewer than six values, whose
    whole range has a lower coverage, it is None.
    """
    n, missed, k = len(values), 0, 0
    while 2 * (missed + math.comb(n, k)) <= 0.05 * 2**n:
        missed += math.comb(n, k)
        k += 1
    ordered = sorted(values)
    return [ordered[k - 1], ordered[n - k]] if k else None


def _stems(tracks: list[Scores]) -> list[str]:
    return list(dict.fromkeys(stem for track in tracks for stem in track if stem != "all"))
