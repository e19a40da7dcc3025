"""``mgdm-audio priors export``: a prior as an ONNX file, for programs without torch."""

from pathlib import Path

import click

from mgdm_audio.cli.options import PRIOR, imports


@click.command()
@click.argument("name", metavar="NAME_OR_DIR", type=PRIOR)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File NAME.onnx."
)
@imports
def export(name: str, output: Path) -> None:
    """Write the default separation with a prior as an ONNX file.

    The inputs of its graph are a mixture [batch, 1, time] and standard normal noise [batch, stem,
    time], the output is the stems [batch, stem, time]: one draw at one speed of the preset
    "default".  The file's metadata name the stems and give sample rate, level and hop, of which
    time is a multiple.  The guide to ONNX has a program that separates a song with it by numpy
    and onnxruntime.  The export needs the extra onnx (pip install 'mgdm_audio[onnx]') and takes
    about a minute.

    \b
    mgdm-audio priors export mini-slakh-v3 -o mini-slakh-v3.onnx
    """
    from mgdm_audio.priors.folder import load_prior
    from mgdm_audio.priors.onnx import export_onnx

    loaded = load_prior(name)
    export_onnx(loaded, output)
    click.echo(f"{output}: {', '.join(loaded.stems)}; {output.stat().st_size / 1e6:.1f} MB")
