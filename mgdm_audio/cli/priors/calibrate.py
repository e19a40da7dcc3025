"""``mgdm-audio priors calibrate``: the variance that a prior reports, measured and corrected."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgdm_audio.cli.options import PRIOR, imports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@click.command()
@click.argument("name", metavar="NAME_OR_DIR", type=PRIOR)
@click.argument("stems", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="New prior folder.")
@click.option("--segments", default=24, show_default=True, help="Number of segments per STEMS.")
@click.option("--length", default=2**17, show_default=True, help="Samples in a segment.")
@click.option("--half", is_flag=True, help="Store float16 weights, in half of the bytes.")
@imports
def calibrate(
    name: str, stems: tuple[Path, ...], output: Path | None, segments: int, length: int, half: bool
) -> None:
    """Measure the calibration error of a prior's variance on held-out STEMS, <track>/<stem>.wav.

    Prints, per noise level, without the mixture and with it, the mean over the stems and each of
    them: the mean of squared error over reported variance, with its standard error over the
    segments, and the sum of squared errors over that of the variances.  Both are 1 where the report
    is calibrated.  With -o it is written as a new prior whose report is corrected so that they are
    (the sums alone, where large errors are not reported as large); where -o is the prior's own
    folder, it takes the place of the old one when it is whole.

    \b
    mgdm-audio priors calibrate RUN/prior songs/validation more/validation -o my-prior --half
    mgdm-audio priors calibrate my-prior songs/test
    """
    import torch
    from tqdm import tqdm

    from mgdm_audio.diffusion.posterior import MixtureDenoiser
    from mgdm_audio.engine.device import at_precision
    from mgdm_audio.errors import UserError
    from mgdm_audio.evaluation.calibration import SIGMAS, measure_residuals
    from mgdm_audio.evaluation.calibration import calibrate as fit
    from mgdm_audio.priors.folder import load_prior, read_config, save_prior
    from mgdm_audio.training.stems import StemFolder

    loaded, config = load_prior(name), read_config(name)
    denoiser = at_precision(loaded.prior, torch.device("cpu"), "auto")[0].denoiser
    if not isinstance(denoiser, MixtureDenoiser):
        raise UserError(f"{name}: its network reports no variance; nothing to calibrate")
    if output is not None and output.exists() and not output.samefile(loaded.path):
        raise UserError(f"{output}: exists; give a new folder, or the prior's own")
    if min(segments, length) < 1:
        raise UserError(f"--segments {segments}, --length {length}: give at least 1")
    folders = [StemFolder(each, loaded.stems, loaded.sample_rate, each.name) for each in stems]
    shortest = min(track.frames for folder in folders for track in folder.tracks)
    if length > shortest:
        raise UserError(f"--length {length}: the shortest track has {shortest} samples; give less")
    x_0 = torch.cat([folder.fixed(segments, length) for folder in folders])
    with tqdm(total=2 * len(SIGMAS) * len(x_0), disable=not sys.stderr.isatty()) as bar:
        residuals = measure_residuals(denoiser, x_0, on_call=bar.update)
    deviation = residuals.standardised.mean(-1).std(0, correction=0) / max(1, len(x_0) - 1) ** 0.5
    standardised = residuals.standardised.mean(0)
    for mode, what in enumerate(("x alone", "x and the mixture")):
        for level, sigma in enumerate(SIGMAS):
            error = f" ± {deviation[mode, level]:.2f}" if len(x_0) > 1 else ""
            each = _by_stem(standardised[mode, level], loaded.stems, error)
            sums = _by_stem(residuals.sums[mode, level], loaded.stems)
            click.echo(f"{what}, sigma {sigma:g}: {each}; of the sums {sums}")
    if output is not None:
        own = ("format", "model_type", "model", "sha256")
        details = {key: value for key, value in loaded.config.items() if key not in own}
        details["calibration"] = fit(denoiser, residuals, SIGMAS).to_config()
        kind = loaded.config["model_type"]
        save_prior(output, loaded.network, config.shape, kind, details, half=half)
        click.echo(f"written: {output}")


def _by_stem(values: "Tensor", stems: "Sequence[str]", error: str = "") -> str:
    each = "  ".join(f"{stem} {v:.2f}" for stem, v in zip(stems, values.tolist(), strict=True))
    return f"{values.mean():.2f}{error} ({each})"
