"""The table of a benchmark, with a line for each set and system, as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from mgdm_audio import tables
from mgdm_audio.evaluation.benchmark.plot import Panel, Point
from mgdm_audio.evaluation.metric_registry import METRICS
from mgdm_audio.evaluation.score_table import summarise
from mgdm_audio.samplers.presets import NO_ROW, STANDS_FOR
from mgdm_audio.samplers.presets.preset import is_mean

Line = dict[str, Any]

NOTE = (
    "SI-SDR improvement in dB ± half of its 95 % interval over tracks; other scores are over all "
    "stems; estimate: one draw, the mean by one call of the network, or the mean of several draws, "
    "which SI-SDR favours; calls: denoiser calls per segment, with / without gradient, a batch of "
    "draws counting once; s / s: seconds of computing per second of audio; outside: share of that "
    "time outside the denoiser; memory: the peak; " + STANDS_FOR
)


def lines_of(records: Sequence[dict[str, Any]], published: Mapping[str, str]) -> list[Line]:
    """Returns one line for each (set, system), in the order of their first records.

    ``published``: system -> the published row with the same sampler and settings, if any. Scores
    are means over the scored tracks (``summarise``). Costs are ratios of totals: seconds per second
    of audio, calls per segment; the peak memory is the largest. A value that no track has is None.
    ``failures`` maps each reason to its tracks.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["set"], record["system"]), []).append(record)
    return [
        _line(name, system, group) | {"published": published.get(system, NO_ROW)}
        for (name, system), group in groups.items()
    ]


def _line(name: str, system: str, records: list[dict[str, Any]]) -> Line:
    scored = [r["si_sdri"] for r in records if r["status"] == "scored"]
    summary = summarise(scored) if scored else {"si_sdri": {}, "interval_95": {}}
    failures: dict[str, list[str]] = {}
    for record in records:
        if record["status"] == "failed":
            failures.setdefault(record["reason"], []).append(record["track"])
    done = [r for r in records if r["status"] != "failed"]
    sampled = [r for r in done if "calls" in r]  # a reference system calls no denoiser
    seconds = sum(r["seconds"] for r in sampled)
    segments = sum(r["segments"] for r in sampled)
    peaks = [r["peak_memory_bytes"] for r in done if r["peak_memory_bytes"] is not None]
    calls = {
        key: sum(r["calls"][key] for r in sampled) / segments if sampled else None
        for key in ("forward", "gradient", "backward")
    }
    return {
        "set": name,
        "system": system,
        "tracks": len(records),
        "scored": len(scored),
        "skipped": len(done) - len(scored),
        "failed": len(records) - len(done),
        "si_sdri": summary["si_sdri"],
        "interval_95": summary["interval_95"],
        "scores": _other_scores([r["scores"] for r in records if r.get("scores")]),
        "draws": sampled[0]["settings"]["draws"] if sampled else None,
        "options": sampled[0]["settings"]["options"] if sampled else {},
        "calls_per_segment": calls,
        "seconds_per_second": _ratio(done, "seconds", "audio_seconds"),
        "share_outside_denoiser": (
            max(0.0, 1 - sum(r["denoiser_seconds"] for r in sampled) / seconds) if sampled else None
        ),
        "peak_memory_bytes": max(peaks, default=None),
        "failures": failures,
    }


def _other_scores(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Column -> title, value and interval over the tracks, of the metrics beside SI-SDRi."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for scores in records for name in scores):
        metric = METRICS.find(name)
        for column, title in metric.columns.items():
            rows = [
                {stem: value for stem, value in scores[name][column].items() if value is not None}
                for scores in records
                if name in scores
            ]
            if kept := [row for row in rows if row]:
                found[column] = {"title": title} | metric.summarise(kept)
    return found


def estimate_of(draws: int | None, options: Mapping[str, Any]) -> str:
    """What is scored: one posterior sample, or the mean of several, which scores higher.

    ``options``: of the sampler. One step of Wiener guidance from noise returns E[x_0 | y], a mean.
    """
    if draws is None:
        return "-"
    if draws == 1:
        return "mean by one call" if is_mean(options) else "one draw"
    return f"mean of {draws}"


def _ratio(records: list[dict[str, Any]], over: str, under: str) -> float | None:
    return sum(r[over] for r in records) / sum(r[under] for r in records) if records else None


def to_csv(lines: Sequence[Line]) -> str:
    """Returns a CSV with a column for every number and empty cells for unknown values."""
    stems = _stems(lines)
    plain = ["set", "system", "tracks", "scored", "skipped", "failed", "draws"]
    costs = ["seconds_per_second", "share_outside_denoiser", "peak_memory_bytes"]
    ways = ["forward", "gradient", "backward"]
    head = list(plain)
    for stem in stems:
        head += [f"{stem}_db", f"{stem}_low", f"{stem}_high"]
    others = list(dict.fromkeys(column for line in lines for column in line["scores"]))
    head += [f"{column}_all" for column in others]
    head += [f"{way}_per_segment" for way in ways] + costs + ["published", "reason"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for line in lines:
        cells = [line[key] for key in plain]
        for stem in stems:
            low, high = line["interval_95"].get(stem) or (None, None)
            cells += [line["si_sdri"].get(stem), low, high]
        cells += [line["scores"].get(column, {}).get("value", {}).get("all") for column in others]
        cells += [line["calls_per_segment"][way] for way in ways]
        cells += [line[key] for key in [*costs, "published"]]
        writer.writerow([*cells, "; ".join(line["failures"])])
    return buffer.getvalue()


def to_markdown(lines: Sequence[Line]) -> str:
    """Returns a Markdown table for every set, followed by its failures."""
    blocks = []
    for name in dict.fromkeys(line["set"] for line in lines):
        own = [line for line in lines if line["set"] == name]
        stems = _stems(own)
        others = {c: s["title"] for line in own for c, s in line["scores"].items()}
        heads = [f"{name}: SI-SDRi, dB", *stems, *others.values(), "tracks", "estimate"]
        heads += ["calls", "s / s", "outside", "memory", "published row"]
        rows = [
            [
                line["system"],
                *(_score(line, s) for s in stems),
                *(_other(line, column) for column in others),
                *_costs(line),
                line["published"],
            ]
            for line in own
        ]
        parts = [tables.table(heads, rows, "l" + "r" * (len(heads) - 2) + "l")]
        for line in own:
            for reason, tracks in line["failures"].items():
                where = ", ".join(tracks[:3]) + (", ..." if len(tracks) > 3 else "")
                parts.append(f"\n{line['system']} failed on {where}: {reason.replace('|', '/')}")
        blocks.append("\n".join(parts))
    return "\n\n".join([*blocks, NOTE]) + "\n"


def panels_of(lines: Sequence[Line]) -> list[Panel]:
    """Returns a panel of scores against cost for each set; reference systems are its levels."""
    panels = []
    for name in dict.fromkeys(line["set"] for line in lines):
        points, levels, count = [], [], 0
        for line in lines:
            if line["set"] != name or not line["scored"]:
                continue
            mean, count = line["si_sdri"]["all"], max(count, line["scored"])
            if line["draws"] is None:
                levels.append((line["system"], mean))
            else:
                low, high = line["interval_95"]["all"] or (None, None)
                points.append(Point(line["system"], line["seconds_per_second"], mean, low, high))
        panels.append(Panel(f"{name}: {count} track{'s' * (count != 1)}", points, levels))
    return panels


def _stems(lines: Sequence[Line]) -> list[str]:
    """Returns the columns of scores: all lines' stems, then "all"."""
    stems = dict.fromkeys(stem for line in lines for stem in line["si_sdri"] if stem != "all")
    return [*stems, "all"]


def _score(line: Line, stem: str) -> str:
    if stem not in line["si_sdri"]:
        return "-"
    interval = line["interval_95"].get(stem)
    spread = f" ± {(interval[1] - interval[0]) / 2:.2f}" if interval else ""
    return f"{line['si_sdri'][stem]:.2f}{spread}"


def _other(line: Line, column: str) -> str:
    return f"{line['scores'][column]['value']['all']:.2f}" if column in line["scores"] else "-"


def _costs(line: Line) -> list[str]:
    count = str(line["scored"])
    if line["failed"]:
        count += f", {line['failed']} failed"
    calls, share = line["calls_per_segment"], line["share_outside_denoiser"]
    speed, peak = line["seconds_per_second"], line["peak_memory_bytes"]
    return [
        count,
        estimate_of(line["draws"], line["options"]),
        "-" if calls["forward"] is None else f"{calls['gradient']:.0f} / {calls['forward']:.0f}",
        "-" if speed is None else f"{speed:.3g}",
        "-" if share is None else f"{100 * share:.0f} %",
        "-" if peak is None else f"{peak / 1e6:.0f} MB",
    ]
