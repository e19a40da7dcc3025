"""``mgdm-audio separate``: stems of audio files."""

import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mgdm_audio.audio.separator import Progress, Separation


RECORD = "separation.json"


@click.command()
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT..."
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Output folder."
)
@click.option("--prior", metavar="NAME_OR_DIR", help="Bundled prior or prior folder.")
@click.option("--sampler", metavar="NAME_OR_TOML", help="Sampler preset, bundled or a TOML file.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change an option of the sampler.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    metavar="N",
    help="Average N posterior draws (default: the preset's).",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--subtype",
    type=click.Choice(["PCM_16", "PCM_24", "FLOAT"]),
    default="PCM_24",
    show_default=True,
    help="Sample format of the stems.",
)
def separate(
    inputs: tuple[Path, ...],
    output: Path,
    prior: str | None,
    sampler: str | None,
    overrides: tuple[str, ...],
    samples: int | None,
    seed: int,
    device: str,
    subtype: str,
) -> None:
    """Separate audio files into stems.

    Writes OUTPUT/<input name>/<stem>.wav, at the input's rate, channels and length, and
    separation.json, which says how they were made.  The stems sum to the input, or to the input
    lowered by a common gain where PCM would clip (a line then says so).

    \b
    mgdm-audio separate song.mp3 -o stems
    mgdm-audio separate song.wav -o stems --samples 4 --subtype FLOAT
    mgdm-audio separate song.wav -o stems --sampler mgdm --set gibbs_steps=2
    """
    from mgdm_audio.audio.separator import DEFAULT_SAMPLER, Separator
    from mgdm_audio.checkpoint import DEFAULT_PRIOR
    from mgdm_audio.errors import UserError

    names = [path.stem for path in inputs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two inputs are named {name!r}; separate them into different folders")
    separator = Separator.from_pretrained(
        prior or DEFAULT_PRIOR, sampler or DEFAULT_SAMPLER, overrides=overrides, device=device
    )
    click.echo(f"device: {separator.device} ({separator.device_reason})", err=True)
    _check_writable(output)
    failed = 0
    for path in inputs:
        try:
            with _progress(path.name) as progress:
                result = separator.separate_file(
                    path, seed=seed, draws=samples, on_progress=progress
                )
            _write(result, output, path, subtype)
        except UserError as error:
            click.echo(f"error: {' '.join(str(error).split())}", err=True)
            failed += 1
            continue
        report = result.report
        click.echo(
            f"{output / path.stem}: {', '.join(result.stems)} "
            f"({report['seconds']:.1f} s, residual {report['residual_db']:.0f} dB)"
        )
    if failed:
        sys.exit(1)


def _check_writable(output: Path) -> None:
    """Before hours of computing, not after: UserError where the folder cannot be written to."""
    from mgdm_audio.errors import UserError

    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise UserError(
            f"{output}: cannot be written ({error.strerror}); choose another -o"
        ) from None


@contextmanager
def _progress(name: str) -> "Iterator[Progress]":
    """One bar with the time left; nothing where standard error is not a terminal."""
    from tqdm import tqdm

    form = "{desc} {percentage:3.0f} % |{bar}| {elapsed} < {remaining}"
    with tqdm(total=1, desc=name, bar_format=form, disable=not sys.stderr.isatty()) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()

        yield update


def _write(result: "Separation", output: Path, path: Path, subtype: str) -> None:
    """The folder of one input, whole or not at all; adds to ``result.report`` what was written."""
    import torch

    from mgdm_audio.audio.io import write
    from mgdm_audio.audio.pcm import common_gain, quantise_together
    from mgdm_audio.errors import UserError

    mixture = result.mixture
    stems = torch.stack(list(result.stems.values()))
    gain = common_gain(stems, mixture, subtype)
    stems = quantise_together(stems * gain, subtype)
    residual = (stems.double().sum(0) - gain * mixture.double()).square().mean()
    power = (gain * mixture.double()).square().mean()
    # A silent mixture has no level to compare with: full scale is the reference then.
    ratio = float(residual / power) if power > 0 else float(residual)
    result.report["subtype"] = subtype
    result.report["gain"] = gain
    result.report["residual_db"] = round(10 * math.log10(max(ratio, 1e-30)), 1)
    if gain < 1:
        click.echo(
            f"{path}: stems lowered by {-20 * math.log10(gain):.2f} dB, or they would clip",
            err=True,
        )
    final, partial = output / path.stem, output / f".{path.stem}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, samples in zip(result.stems, stems, strict=True):
            write(partial / f"{name}.wav", samples, result.sample_rate, subtype)
        (partial / RECORD).write_text(json.dumps(result.report, indent=2) + "\n")
        if final.is_dir():
            # It may hold files of the user's own: only those of the same name are replaced. The
            # record goes first and comes last, so that it never describes other stems.
            (final / RECORD).unlink(missing_ok=True)
            for file in sorted(partial.iterdir(), key=lambda file: file.name == RECORD):
                os.replace(file, final / file.name)
        else:
            os.replace(partial, final)
    except OSError as error:
        raise UserError(
            f"{final}: cannot be written ({error.strerror}); choose another -o"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
