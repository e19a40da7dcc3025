"""``mgdm-audio separate``: stems of audio files."""

import math
import sys
from pathlib import Path

import click

from mgdm_audio.cli.progress import progress


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
@click.option(
    "--keep-samples", is_flag=True, help="Also write every draw, to samples/<number>/<stem>.wav."
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
    keep_samples: bool,
    seed: int,
    device: str,
    subtype: str,
) -> None:
    """Separate audio files into stems.

    Writes OUTPUT/<input name>/<stem>.wav, at the input's rate, channels and length, and
    separation.json, which says how they were made.  The stems sum to the input, or to the input
    lowered by a common gain where PCM would clip (a line then says so).

    uncertainty.json holds, per stem and tenth of a second, the standard deviation over the draws,
    and in dB how far the stem stands out of it (null with a single draw).  Draws of the default
    sampler, and of any sampler under a weak prior, agree far better than they are right.

    \b
    mgdm-audio separate song.mp3 -o stems
    mgdm-audio separate song.wav -o stems --samples 4 --subtype FLOAT
    mgdm-audio separate song.wav -o stems --sampler mgdm --set gibbs_steps=2
    """
    from mgdm_audio.audio.result_folder import require_writable
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
    require_writable(output)
    failed = 0
    for path in inputs:
        try:
            with progress(path.name) as move:
                result = separator.separate_file(
                    path, seed=seed, draws=samples, keep_draws=keep_samples, on_progress=move
                )
            record = result.save(output / path.stem, subtype)
        except UserError as error:
            click.echo(f"error: {' '.join(str(error).split())}", err=True)
            failed += 1
            continue
        if record["gain"] < 1:
            lowered = -20 * math.log10(record["gain"])
            click.echo(f"{path}: stems lowered by {lowered:.2f} dB, or they would clip", err=True)
        click.echo(
            f"{output / path.stem}: {', '.join(result.stems)} "
            f"({record['seconds']:.1f} s, residual {record['residual_db']:.0f} dB)"
        )
    if failed:
        sys.exit(1)
