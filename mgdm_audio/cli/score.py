"""``mgdm-audio score``: SI-SDR improvement of separated tracks."""

import json
from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(path_type=Path)


@click.command()
@click.option("--reference", type=FOLDER, required=True, help="True stems, <track>/<stem>.wav.")
@click.option("--estimate", type=FOLDER, required=True, help="Separated stems, named alike.")
@click.option("-o", "--out", type=FOLDER, help="Also write the scores to this JSON file.")
def score(reference: Path, estimate: Path, out: Path | None) -> None:
    """Score separated tracks against their true stems.

    Prints the SI-SDR improvement over the mixture (the sum of the true stems) in dB: the mean over
    windows of 4 s every 2 s in which two or more stems sound. Files are wav or flac.
    """
    from mgdm_audio.atomic import write_text
    from mgdm_audio.audio.scoring import find_tracks, score_folders

    tracks = find_tracks(reference)
    stems = list(dict.fromkeys(stem for files in tracks.values() for stem in files))
    columns = [*stems, "all"]
    width = max(len(name) for name in [*tracks, "95 % interval"])

    def row(name: str, cells: list[str]) -> None:
        fitted = (
            f"{cell:>{max(8, len(column))}}" for cell, column in zip(cells, columns, strict=True)
        )
        click.echo(f"{name:<{width}}  {'  '.join(fitted)}")

    def show(name: str, result: dict[str, Any]) -> None:
        if "skipped" in result:
            click.echo(f"{name:<{width}}  skipped: {result['skipped']}")
        else:
            row(name, [decibels(result["si_sdri"].get(column)) for column in columns])

    row("SI-SDRi, dB", columns)
    result = score_folders(reference, estimate, show)
    summary = result["summary"]
    row(f"mean of {summary['n']}", [decibels(summary["si_sdri"][column]) for column in columns])
    halves = {c: (v[1] - v[0]) / 2 for c, v in summary["interval_95"].items() if v is not None}
    if halves:
        row("95 % interval", [f"±{halves[c]:.2f}" if c in halves else "-" for c in columns])
    if out is not None:
        write_text(out, json.dumps(result, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
        click.echo(f"written: {out}")


def decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
