"""``mgdm-audio priors convert``: a prior folder of public weights."""

from pathlib import Path

import click

from mgdm_audio.cli.priors.summary import summary


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT | STEM=CHECKPOINT...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="New folder.")
@click.option("--stems", help="Names of a CHECKPOINT's sources, in order, as a,b,c.")
@click.option("--mixture-rms", type=float, help="Level of the training mixtures, linear.")
@click.option("--average/--no-average", default=True, help="Use averaged weights (EMA), if any.")
def convert(
    checkpoints: tuple[str, ...],
    output: Path,
    stems: str | None,
    mixture_rms: float | None,
    average: bool,
) -> None:
    """Make a prior folder from MSDM's public weights (arXiv 2302.02257).

    Give one checkpoint of all sources, or one for each stem, which makes independent stems (ISDM).
    Code in a checkpoint's pickle is never run.

    \b
    mgdm-audio priors convert msdm.ckpt -o msdm
    mgdm-audio priors convert bass=b.ckpt drums=d.ckpt guitar=g.ckpt piano=p.ckpt -o isdm
    mgdm-audio separate song.wav -o out --prior msdm --sampler mgdm
    """
    from mgdm_audio.errors import UserError
    from mgdm_audio.priors import convert_msdm as msdm
    from mgdm_audio.priors.folder import read_config

    level = msdm.MIXTURE_RMS if mixture_rms is None else mixture_rms
    if len(checkpoints) == 1 and ("=" not in checkpoints[0] or Path(checkpoints[0]).exists()):
        names = msdm.STEMS if stems is None else stems.split(",")
        networks = msdm.convert(
            Path(checkpoints[0]), output, stems=names, mixture_rms=level, average=average
        )
    else:
        pairs = [(stem, path) for stem, _, path in (item.partition("=") for item in checkpoints)]
        for stem, path in pairs:
            if not path or [other for other, _ in pairs].count(stem) > 1:
                raise UserError(f"{stem}: give one checkpoint, or STEM=CHECKPOINT once for each")
            if stem and stems is None and not Path(path).is_file():  # Lightning's names hold "="
                raise UserError(f"{stem}={path}: no such file; give FILE or STEM=FILE")
        if stems is not None:
            raise UserError(f"--stems {stems}: the stems are named already, by STEM=CHECKPOINT")
        paths = {stem: Path(path) for stem, path in pairs}
        networks = msdm.convert_independent(paths, output, mixture_rms=level, average=average)
    for network in networks:
        for setting in network.assumed:
            click.echo(f"{network.path}: does not say {setting}; taken as published", err=True)
    click.echo(f"{output}: {summary(read_config(output))}")
