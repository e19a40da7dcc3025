"""``mgdm-audio priors``: which there are, what they hold, whether they work; and public weights."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgdm_audio.cli.options import ANY_PRIOR, PRIOR, imports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mgdm_audio.priors.folder import PriorConfig
    from mgdm_audio.priors.trained_images import TrainedConfig

CHECK_SAMPLES = 8192  # at least, of the network call that verify makes
PROBE_SAMPLES = 2**16  # of a segment of the probe


@click.group()
def priors() -> None:
    """List, show, verify and convert priors.

    \b
    mgdm-audio priors list
    mgdm-audio priors convert msdm.ckpt -o msdm
    """


@priors.command("list")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@imports
def list_(folder: Path | None) -> None:
    """List the bundled priors, and those in FOLDER if it is given.

    \b
    mgdm-audio priors list
    mgdm-audio priors list my_priors
    """
    from mgdm_audio.errors import UserError
    from mgdm_audio.priors.folder import CONFIG, list_image_priors, list_priors

    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = [] if folder is None else sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    names = [*list_priors(), *list_image_priors(), *map(str, found)]
    for name in names:
        try:
            click.echo(f"{name}: {_summary(_read(name))}")
        except UserError as error:
            click.echo(f"{name}: {error}")
    if not names:
        click.echo("none")


@priors.command()
@click.argument("name", metavar="NAME_OR_DIR", type=ANY_PRIOR)
@imports
def show(name: str) -> None:
    """Show what a prior is; its weights are not opened, see verify.

    \b
    mgdm-audio priors show RUN/prior
    """
    from mgdm_audio.priors.architectures import ARCHITECTURES, GAINS
    from mgdm_audio.priors.folder import PriorConfig

    prior = _read(name)
    config, schedule = prior.config, prior.schedule
    low, high = float(schedule.noise_level[1]), float(schedule.noise_level[-1])
    card = prior.path / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    licence = re.search(r"^(?:weights|licen[cs]e):\s*(.+)$", text, re.MULTILINE | re.IGNORECASE)
    rows = {"name": prior.path.resolve().name}
    if isinstance(prior, PriorConfig):
        rows |= {
            "stems": ", ".join(prior.stems),
            "rate": f"{prior.sample_rate} Hz",
            "segment": f"{prior.segment} samples ({prior.segment / prior.sample_rate:.1f} s)",
            "mixture level": f"{prior.mixture_rms:g} rms",
            "gain": GAINS[ARCHITECTURES.find(config["model_type"]).gain],
        }
    else:
        rows["images"] = _pixels(prior)
        if prior.autoencoder is not None:
            rows["latents"] = f"{prior.network.channels} x {prior.size[0]} x {prior.size[1]}"
    rows |= {
        "noise levels": f"{schedule.num_levels} from {low:g} to {high:g}",
        "architecture": config["model_type"],
        "size": _size(prior),
        "sha256": config.get("sha256", "not in config.json"),
        "licence": licence[1] if licence else "not in its model card",
        "folder": str(prior.path),
    }
    for key, value in rows.items():
        click.echo(f"{key:<14}{value}")
    click.echo(f"\n{_first_paragraph(text) or 'It has no model card.'}")


@priors.command()
@click.argument("names", nargs=-1, metavar="[NAME_OR_DIR]...", type=ANY_PRIOR)
@click.option(
    "--probe",
    "stems",
    type=click.Path(path_type=Path),
    help="Songs, as <track>/<stem>.wav, on which to measure what the denoiser keeps of errors.",
)
@click.option("--segments", default=8, show_default=True, help="Segments of 3 s of --probe.")
@imports
def verify(names: tuple[str, ...], stems: Path | None, segments: int) -> None:
    """Check priors, by default all that are bundled.

    The weights must have the hash that config.json gives, be finite and fit the architecture, and
    the denoiser must turn noise into finite stems or images.  One line for each; exits with 1 on a
    fault.

    With --probe a table follows for each prior over stems: at each noise level sigma, the share
    that the denoiser keeps of a perturbation that sums to zero over the stems, which a sampler's
    states have and the mixture cannot show. The perturbation is one stem's music moved to another
    stem, or white noise, of 1, 3 and 10 times sigma; in brackets, the share that an exact
    local-Gaussian prior keeps. Above 1 the denoiser enlarges such errors.

    \b
    mgdm-audio priors verify
    mgdm-audio priors verify RUN/prior
    mgdm-audio priors verify mini-slakh-v2 --probe songs/validation
    """
    from mgdm_audio.errors import UserError
    from mgdm_audio.priors.folder import list_image_priors, list_priors

    failed = False
    for name in names or [*list_priors(), *list_image_priors()]:
        try:
            click.echo(f"{name}: ok, {_verify(name)}")
            if stems is not None:
                click.echo(_probe(name, stems, segments))
        except UserError as error:
            click.echo(f"error: {name}: {' '.join(str(error).split())}", err=True)
            failed = True
    if failed:
        sys.exit(1)


def _verify(name: str) -> str:
    import torch

    from mgdm_audio.errors import UserError
    from mgdm_audio.priors.folder import CONFIG, find_prior, is_image_prior, load_prior
    from mgdm_audio.priors.trained_images import load_trained
    from mgdm_audio.rng import generator_for

    path = find_prior(name)
    if "sha256" not in _read(name).config:
        raise UserError(f"{path / CONFIG}: lacks 'sha256', so the weights may be anybody's")
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


@priors.command()
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT | STEM=CHECKPOINT...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="New folder.")
@click.option("--stems", help="Names of a CHECKPOINT's sources, in order, as a,b,c.")
@click.option("--mixture-rms", type=float, help="Level of the training mixtures, linear.")
@click.option("--average/--no-average", default=True, help="Averaged weights (EMA), if any.")
def convert(
    checkpoints: tuple[str, ...],
    output: Path,
    stems: str | None,
    mixture_rms: float | None,
    average: bool,
) -> None:
    """Make a prior folder of MSDM's public weights (arXiv 2302.02257).

    One checkpoint of all sources, or one for each stem, which then are independent (ISDM).  What a
    checkpoint pickles is never run.

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
    click.echo(f"{output}: {_summary(read_config(output))}")


@priors.command()
@click.argument("name", metavar="NAME_OR_DIR", type=PRIOR)
@click.argument("stems", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="New prior folder.")
@click.option("--segments", default=24, show_default=True, help="Segments of each STEMS.")
@click.option("--length", default=2**17, show_default=True, help="Samples of a segment.")
@click.option("--half", is_flag=True, help="Store float16 weights, in half of the bytes.")
@imports
def calibrate(
    name: str, stems: tuple[Path, ...], output: Path | None, segments: int, length: int, half: bool
) -> None:
    """Measure a prior's reported variance on STEMS, <track>/<stem>.wav it was not trained on.

    Prints, per noise level, without the mixture and with it, the mean over the stems and each of
    them: the mean of squared error over reported variance, with its standard error over the
    segments, and the sum of squared errors over that of the variances.  Both are 1 where the report
    is calibrated.  With -o it is written as a new prior whose report is corrected so that they are
    (the sums alone, where large errors are not reported as large).

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
    if output is not None and output.exists():
        raise UserError(f"{output}: exists; give a new folder")
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


def _read(name: str) -> "PriorConfig | TrainedConfig":
    """Its config.json, whether of stems or of images."""
    from mgdm_audio.priors.folder import find_prior, is_image_prior, read_config
    from mgdm_audio.priors.trained_images import read_trained

    path = find_prior(name)
    return read_trained(path) if is_image_prior(path) else read_config(name)


def _summary(prior: "PriorConfig | TrainedConfig") -> str:
    from mgdm_audio.priors.folder import PriorConfig

    if isinstance(prior, PriorConfig):
        return f"{', '.join(prior.stems)}; {_size(prior)}, {prior.sample_rate} Hz"
    latent = "" if prior.autoencoder is None else ", in latents"
    return f"images of {_pixels(prior)}{latent}; {_size(prior)}"


def _pixels(prior: "TrainedConfig") -> str:
    channels, height, width = prior.image_shape
    return f"{width} x {height} pixels, {'grey' if channels == 1 else f'{channels} channels'}"


def _size(prior: "PriorConfig | TrainedConfig") -> str:
    """Parameters, counted without memory for them, and megabytes of the files."""
    import torch

    with torch.device("meta"):
        networks = prior.networks()
    count = sum(p.numel() for network in networks.values() for p in network.parameters())
    if missing := [path.name for path in networks if not path.is_file()]:
        return f"{count / 1e6:.1f} M parameters, no {missing[0]}"
    size = sum(path.stat().st_size for path in networks)
    return f"{count / 1e6:.1f} M parameters, {size / 1e6:.1f} MB"


def _first_paragraph(text: str) -> str:
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
    return next((block for block in blocks if block and not block.startswith(("#", "---"))), "")
