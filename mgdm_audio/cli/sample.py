"""``mgdm-audio sample``: new stems out of a prior."""

from pathlib import Path

import click

from mgdm_audio.cli.options import OUTPUT, PRESET, SET, STEM_PRIOR, SUBTYPE, imports, progress


@click.command()
@OUTPUT
@STEM_PRIOR
@click.option(
    "--given",
    multiple=True,
    metavar="STEM=FILE",
    help="A given stem; the missing stems are drawn conditionally on it. Repeatable.",
)
@click.option(
    "--seconds", type=float, metavar="S", help="Length (default: 10, or that of the given stems)."
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Draw N times.",
)
@click.option(
    "--sampler",
    type=PRESET,
    help="Sampler preset, bundled or a TOML file (default: ancestral; with --given: impute).",
)
@SET
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@SUBTYPE
@imports
def sample(
    output: Path,
    prior: str | None,
    given: tuple[str, ...],
    seconds: float | None,
    samples: int,
    sampler: str | None,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    subtype: str,
) -> None:
    """Generate all stems from a prior, or the stems that are missing from a song.

    Writes OUTPUT/<stem>.wav, mixture.wav, and sample.json with the settings; several samples are
    written to OUTPUT/<number>.  Without --given all stems are generated, mono, at the prior's rate.
    With it, files have the rate, channels and length of the given stems, which are written
    unchanged.

    One sample is one segment of at most 120 seconds, which takes 2.4 GB of memory with the bundled
    prior on a CPU.

    \b
    mgdm-audio sample -o new --seconds 8 --samples 4
    mgdm-audio sample -o band --given drums=drums.wav --given bass=bass.wav
    """
    from mgdm_audio.audio.files import read_given
    from mgdm_audio.errors import UserError
    from mgdm_audio.generation.generator import GENERATION, IMPUTATION, Generator, check_planned
    from mgdm_audio.output.result_folder import require_writable
    from mgdm_audio.priors.folder import DEFAULT_PRIOR

    files = _files(given)
    if files and seconds is not None:
        raise UserError("--seconds: the given stems set the length; leave it out")
    generator = Generator.from_pretrained(
        prior or DEFAULT_PRIOR,
        sampler or (IMPUTATION if files else GENERATION),
        overrides=overrides,
        device=device,
    )
    stems = read_given(files, generator.stems) if files else None
    click.echo(f"device: {generator.device} ({generator.device_reason})", err=True)
    for i in range(samples):
        place = output / str(i) if samples > 1 else output
        check_planned(place, generator.stems, files.values())
    with progress("sample") as move:
        if stems is not None:
            drawn = generator.impute(stems, samples=samples, seed=seed, on_progress=move)
        else:
            length = 10.0 if seconds is None else seconds
            drawn = generator.generate(length, samples=samples, seed=seed, on_progress=move)
        require_writable(output)
        for i, result in enumerate(drawn):
            place = output / str(i) if samples > 1 else output
            record = result.save(place, subtype)
            made = [name for name in result.stems if name not in result.given]
            if record["gain"] < 1:
                click.echo(f"{place}: generated stems lowered, or they would clip", err=True)
            click.echo(f"{place}: {', '.join(made)} ({record['seconds']:.1f} s)")


def _files(given: tuple[str, ...]) -> dict[str, Path]:
    """Returns the files of ``--given`` by stem."""
    from mgdm_audio.errors import UserError

    files: dict[str, Path] = {}
    for item in given:
        stem, equals, path = item.partition("=")
        if not (stem and equals and path):
            raise UserError(f"--given {item!r}: write STEM=FILE, say bass=bass.wav")
        if stem in files:
            raise UserError(f"--given {stem} is there twice ({files[stem]} and {path}); give one")
        files[stem] = Path(path)
    return files
