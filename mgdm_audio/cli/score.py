"""``mgdm-audio score``: how near separated tracks come to their true stems."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from mgdm_audio.cli.options import EXECUTOR, imports

FOLDER = click.Path(path_type=Path)


@click.command()
@click.option("--reference", type=FOLDER, required=True, help="True stems, <track>/<stem>.wav.")
@click.option("--estimate", type=FOLDER, required=True, help="Separated stems of these names.")
@click.option(
    "--metrics",
    default="si-sdri",
    show_default=True,
    metavar="NAME,NAME",
    help="Metrics: si-sdri, activity, si-sdr, sdr, bss, mel, mr-stft (see above), and those that a "
    "package or --import adds.",
)
@click.option(
    "-o",
    "--out",
    "outs",
    type=FOLDER,
    multiple=True,
    help="Also write the scores to this file: a table if it is .csv or .md, else JSON. Repeatable.",
)
@click.option(
    "--nj", type=click.IntRange(min=1), default=1, show_default=True, help="Tracks in parallel."
)
@click.option(
    "--cache",
    type=FOLDER,
    help="Folder of scores to reuse.  [default: .scores in the folder of the first -o]",
)
@click.option("--museval", type=FOLDER, help="Write the frames of bss to FOLDER/test/<track>.json.")
@click.option(
    "--draws",
    is_flag=True,
    help="Score each posterior sample (<track>/samples/<number>) by itself and average the scores; "
    "by default the mean of the samples is scored, which has a higher SI-SDR.",
)
@EXECUTOR
@imports
def score(
    reference: Path,
    estimate: Path,
    metrics: str,
    outs: tuple[Path, ...],
    nj: int,
    cache: Path | None,
    museval: Path | None,
    draws: bool,
    executor: str,
) -> None:
    """Score separated tracks against their true stems.

    Prints the SI-SDR improvement over the mixture (the sum of the true stems) in dB: the mean over
    windows of 4 s every 2 s in which two or more stems sound. Files are of any format that
    mgdm-audio separate reads.

    \b
    --metrics, in dB except mr-stft, and averaged over tracks except bss:
      si-sdri  SI-SDR improvement over the mixture, as above
      activity the same in windows where a stem is active, and the leakage (energy of
               the estimate over the mixture's) where it is silent
      si-sdr   scale-invariant SDR of the whole track
      sdr      SDR of the whole track
      bss      SDR, ISR, SIR, SAR of BSS Eval v4 by museval: medians over frames
               of 1 s, then over tracks; far slower than all others together
      mel      mean distance of log-mel spectrograms; lower is better
      mr-stft  multi-resolution STFT distance, for generated stems; lower is better

    Scores in the cache are not computed again, so that the same command continues what was stopped;
    a changed file or metric is. The cache may be deleted at any time.  A track that fails stops no
    other; the exit code is 1 then.

    \b
    mgdm-audio score --reference true --estimate stems
    mgdm-audio score --reference true --estimate stems --metrics si-sdri,bss -o scores.md --nj 4
    """
    from mgdm_audio.atomic import write_text
    from mgdm_audio.cli.options import progress
    from mgdm_audio.evaluation import folders
    from mgdm_audio.evaluation.score_table import to_csv, to_markdown, to_text

    _check(outs, (reference, estimate))
    if cache is None and outs:
        cache = outs[0].parent / ".scores"
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    options: dict[str, Any] = {"cache": cache, "museval": museval, "draws": draws}
    options["log"] = outs[0].parent if outs else None
    with progress("scoring") as update:
        result = folders.score(
            reference, estimate, names, nj=nj, executor=executor, on_progress=update, **options
        )
    click.echo(to_text(result), nl=False)
    writers = {".csv": to_csv, ".md": to_markdown}
    for out in outs:
        write_text(out, writers.get(out.suffix.lower(), to_json)(result))
        click.echo(f"written: {out}")
    _end(result)


def _end(result: dict[str, Any]) -> None:
    """Say which tracks failed, and exit with 1 if any did."""
    failed = [track["failed"] for track in result["tracks"].values() if "failed" in track]
    for why in failed:
        click.echo(f"error: {why}", err=True)
    if failed:
        sys.exit(1)


def _check(outs: tuple[Path, ...], folders: tuple[Path, ...]) -> None:
    """Raises UserError where a file cannot be made, or is one of those that are scored."""
    from mgdm_audio.errors import UserError
    from mgdm_audio.output.result_folder import spare

    for out in outs:
        if not out.parent.is_dir():
            raise UserError(f"{out}: folder {out.parent} does not exist; make it first")
        if out.exists() and not out.is_file():
            raise UserError(f"{out}: is no regular file; choose another place")
    spare(outs, (file for folder in folders for file in folder.rglob("*")))


def to_json(result: dict[str, Any]) -> str:
    return json.dumps(result, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
