"""``mgdm-audio priors verify``: whether weights are whole and the denoiser works."""

import sys
from pathlib import Path

import click

from mgdm_audio.cli.options import ANY_PRIOR, imports
from mgdm_audio.cli.priors.summary import read

CHECK_SAMPLES = 8192  # at least, of the network call that verify makes
PROBE_SAMPLES = 2**16  # of a segment of the probe


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME_OR_DIR]...", type=ANY_PRIOR)
@click.option(
    "--probe",
    "stems",
    type=click.Path(path_type=Path),
    help="Songs, <track>/<stem>.wav, on which to measure the denoiser's gain on interference.",
)
@click.option("--segments", default=8, show_default=True, help="Segments of 3 s for --probe.")
@imports
def verify(names: tuple[str, ...], stems: Path | None, segments: int) -> None:
    """Check priors, by default all that are bundled.

    The weights must have the hash in config.json, be finite and fit the architecture, and the
    denoiser must map noise to finite stems or images.  Prints one line for each prior; exits with 1
    on a fault.

    With --probe it also prints, for each prior over stems, a table of the denoiser's gain on
    interference that sums to zero over the stems, so that the mixture does not determine it, at
    each noise level sigma. The interference is one stem's music moved to another stem, or white
    noise, of 1, 3 and 10 times sigma; in brackets is the gain of an exact local-Gaussian prior. A
    gain above 1 amplifies such errors.

    \b
    mgdm-audio priors verify
    mgdm-audio priors verify RUN/prior
    mgdm-audio priors verify mini-slakh-v3 --probe songs/validation
    """
    from mgdm_audio.errors import recorded
    from mgdm_audio.priors.folder import list_image_priors, list_priors

    failed = False
    for name in names or [*list_priors(), *list_image_priors()]:
        try:
            click.echo(f"{name}: ok, {check(name)}")
            if stems is not None:
                click.echo(_probe(name, stems, segments))
        except Exception as error:  # one of many stops no other
            line = recorded(error, None, name).removeprefix(f"{name}: ")
            click.echo(f"error: {name}: {line}", err=True)
            failed = True
    if failed:
        sys.exit(1)


def check(name: str | Path) -> str:
    """What was found of a prior that works. Raises UserError for one that does not."""
    import torch

    from mgdm_audio.errors import UserError
    from mgdm_audio.priors.folder import CONFIG, find_prior, is_image_prior, load_prior
    from mgdm_audio.priors.images.trained_images import load_trained
    from mgdm_audio.rng import generator_for

    path = find_prior(name)
    if "sha256" not in read(name).config:
        raise UserError(f"{path / CONFIG}: lacks 'sha256', so the weights cannot be verified")
    if is_image_prior(path):
        opened = load_trained(path)
        prior, sha256 = opened.prior, next(iter(opened.sha256.values()))
    else:
        loaded = load_prior(name)
        multiple = int(getattr(loaded.network, "length_multiple", 1))
        length = -(-CHECK_SAMPLES // multiple) * multiple
        prior, sha256 = loaded.prior.with_event_shape((len(loaded.stems), length)), loaded.sha256
    with torch.no_grad():
        x = prior.sample_x_T(1, generator=generator_for(0, "verify"))
        x_0 = prior.predict_x0(x, prior.schedule.num_levels)
        if x_0.shape != x.shape:
            raise UserError(f"{path}: gives {list(x_0.shape)} for {list(x.shape)}")
        x_0 = x_0 if prior.codec is None else prior.codec.decode(x_0)
    if not bool(x_0.isfinite().all()):
        raise UserError(f"{path}: gives values that are not finite")
    return f"sha256 {sha256[:12]}, finite weights, output {list(x_0.shape)}"


def _probe(name: str, stems: Path, segments: int) -> str:
    import torch
    from tqdm import tqdm

    from mgdm_audio.engine.device import at_precision
    from mgdm_audio.errors import UserError
    from mgdm_audio.evaluation.probe import KINDS, LEVELS, SIGMAS, probe, table
    from mgdm_audio.priors.folder import load_prior
    from mgdm_audio.training.stems import StemFolder

    loaded = load_prior(name)
    folder = StemFolder(stems, loaded.stems, loaded.sample_rate)
    shortest = min(track.frames for track in folder.tracks)
    if segments < 1 or shortest < PROBE_SAMPLES:
        raise UserError(
            f"{stems}: the probe needs a segment and tracks of {PROBE_SAMPLES} samples; "
            f"--segments is {segments}, the shortest track has {shortest}"
        )
    x_0 = folder.fixed(segments, PROBE_SAMPLES)
    denoiser = at_precision(loaded.prior, torch.device("cpu"), "auto")[0].denoiser
    calls = len(x_0) * len(SIGMAS) * (1 + len(KINDS) * len(LEVELS))
    with tqdm(total=calls, disable=not sys.stderr.isatty()) as bar:
        return table(probe(denoiser, x_0, bar.update))
