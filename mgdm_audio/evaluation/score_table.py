"""Scores of many tracks summarised by stem, as text for the terminal, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median, stdev
from typing import Any

from mgdm_audio import tables


def to_text(result: dict[str, Any]) -> str:
    """For every column a table of all tracks; below it their mean or median, and its interval."""
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
    skipped = "si_sdri" not in result["summaries"]  # else its table has said so
    if notes := "".join(_notes(result, skipped)):
        blocks.append(notes)
    return "\n".join(blocks)


def to_markdown(result: dict[str, Any]) -> str:
    """A line for every column: its mean or median over tracks, and its 95 % interval."""
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
    # A blank line makes each note a paragraph of its own.
    return "\n".join([tables.table(["", *columns, "tracks"], rows), "", *_notes(result, True)])


def to_csv(result: dict[str, Any]) -> str:
    """A line for every number: of a track, then of all (``over`` is mean or median).

    Empty cells for what is unknown; ``note`` says why a value is.
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
    """± half of a mean's interval; of a median, which lies anywhere in it, both ends."""
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
    """What has no score and why, three places at most named for each reason."""
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
