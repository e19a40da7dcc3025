"""``mgdm-audio bench``: samplers against each other, in dB and in seconds."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mgdm_audio.cli.options import OUTPUT, PRIOR, imports

if TYPE_CHECKING:
    from collections.abc import Callable

    from mgdm_audio.evaluation.benchmark.bench import Bench


@click.command()
@click.argument("suite", type=click.Path(path_type=Path), metavar="SUITE.toml")
@OUTPUT
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="SET=FOLDER",
    help="Folder of true stems for a set, <track>/<stem>.wav, instead of the suite's.",
)
@click.option("--prior", type=PRIOR, help="Prior to use instead of the suite's.")
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps; instead of the suite's.")
@click.option(
    "--shard",
    default="",
    metavar="I/N",
    help="This process's share of the rows, I from 1; by default torchrun's or Slurm's.",
)
@imports
def bench(
    suite: Path,
    output: Path,
    references: tuple[str, ...],
    prior: str | None,
    device: str | None,
    shard: str,
) -> None:
    """Run samplers on sets of tracks under one prior, score them and measure their cost.

    Writes OUTPUT/table.md, .csv and .json, a plot of dB against seconds, OUTPUT/cost.svg, which
    needs the extra plot (pip install 'mgdm_audio[plot]'), and a record of every row in OUTPUT/rows.
    Finished rows are computed again only if the prior, options, input or version have changed,
    failed rows always.  A failed row does not stop the others; the exit code is then 1.  Stems
    that cannot be scored, because they are missing or differ in length, are refused with exit
    code 2 before anything is computed.

    \b
    SUITE.toml:
      prior = "mini-slakh-v3"
      metrics = ["mr-stft"]        # further columns beside SI-SDRi; may be left out
      [[sets]]
      name = "test"
      reference = "stems"          # <track>/<stem>.wav, relative to SUITE.toml
      seconds = 4                  # excerpt of each track; omit it for whole tracks
      [[systems]]
      name = "wiener-split"        # or mixture, oracle-mask, or a preset's name
      [[systems]]
      name = "mgdm-r2"
      preset = "mgdm"              # or a .toml file
      overrides = ["gibbs_steps=2"]
      draws = 1

    \b
    mgdm-audio bench suite.toml -o OUT
    mgdm-audio bench suite.toml -o OUT --reference test=stems --prior msdm
    """
    from mgdm_audio.engine.sharding import find_shard
    from mgdm_audio.errors import UserError
    from mgdm_audio.evaluation.benchmark.bench import Bench
    from mgdm_audio.evaluation.benchmark.measuring import Record, Row
    from mgdm_audio.evaluation.benchmark.suite import load_suite, with_references
    from mgdm_audio.evaluation.benchmark.table import to_markdown

    plan = with_references(load_suite(suite), _folders(references))
    plan = replace(plan, prior=prior or plan.prior, device=device or plan.device)
    runner = Bench(plan, output, find_shard(shard, os.environ))
    click.echo(f"device: {runner.device} ({runner.device_reason})", err=True)
    for line in _notes(runner):
        click.echo(line, err=True)
    with _progress(len(runner.rows), len(runner.finished())) as (say, move):

        def on_row(row: Row, record: Record) -> None:
            say(f"{row.name}: {_outcome(record)}")

        lines = runner.run(on_row, lambda row, done: move(row.name, done))
    click.echo(f"{to_markdown(lines)}\nwritten: {output / 'table.md'}")
    if failed := sum(line["failed"] for line in lines):
        rows = f"{failed} of {len(runner.rows)} rows"
        raise UserError(f"{output / 'table.md'}: {rows} failed; run again to retry those alone")


def _notes(runner: "Bench") -> "Iterator[str]":
    """What of the suite has no result."""
    for name in runner.skipped:
        yield f"set {name}: no folder, left out; add --reference {name}=FOLDER"
    for name, stems in runner.unscored().items():
        yield f"set {name}: no track has {', '.join(stems)}, not scored there"
    if runner.why_no_plot:
        yield f"{runner.output / 'cost.svg'}: not written; {runner.why_no_plot}"


def _folders(references: tuple[str, ...]) -> dict[str, str]:
    """Returns the folders of ``--reference`` by set."""
    from mgdm_audio.errors import UserError

    folders = {}
    for reference in references:
        name, equals, folder = reference.partition("=")
        if not equals or not folder:
            raise UserError(f"--reference {reference!r}: write SET=FOLDER, say test=stems")
        folders[name] = folder
    return folders


def _outcome(record: dict[str, Any]) -> str:
    if record["status"] != "scored":
        return f"{record['status']}: {record['reason']}"
    speed = record["seconds"] / record["audio_seconds"]
    return f"{record['si_sdri']['all']:.2f} dB, {speed:.3g} s / s"


@contextmanager
def _progress(
    rows: int, finished: int
) -> "Iterator[tuple[Callable[[str], None], Callable[[str, float], None]]]":
    """What prints a line, and what moves one bar over all rows, if standard error is a terminal."""
    from tqdm import tqdm

    form = "{desc} {percentage:3.0f} % |{bar}| {elapsed} < {remaining}"
    hidden = not sys.stderr.isatty()
    with tqdm(total=rows, initial=finished, bar_format=form, disable=hidden) as bar:

        def move(name: str, done: float) -> None:
            bar.n = done
            bar.set_description_str(f"{name}, row {int(done) + 1} of {rows}")

        yield tqdm.write, move
        bar.n = rows
        bar.refresh()
