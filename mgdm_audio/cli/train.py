"""``mgdm-audio train``: a prior from folders of stems."""

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from mgdm_audio.cli.names import PRIOR
from mgdm_audio.errors import UserError

FIXED = ("model.", "data.stems", "data.sample_rate")  # settings that a run keeps
FREE = ("model.bin_weight", "model.pivot")  # of these, what --init may differ in: no weight's shape


@dataclass(frozen=True)
class DataConfig:
    """Section [data]: folders of ``<track>/<stem>.wav``, or the folder or manifest of prepared
    data, of which the splits are taken; and how segments are cut from them."""

    train: str
    validation: str = ""
    train_split: str = "train"
    validation_split: str = "validation"
    stems: tuple[str, ...] = ("bass", "drums", "guitar", "piano")
    sample_rate: int = 22050  # Hz
    segment: int = 2**16  # samples
    validation_segments: int = 24
    augment: dict[str, Any] = field(default_factory=dict)
    resident: bool = False  # all songs in the device's memory: for accelerators
    refresh: int = 0  # steps between looks for new songs, 0: none; for resident songs

    def __post_init__(self) -> None:
        if not self.stems or min(self.sample_rate, self.segment, self.validation_segments) < 1:
            raise ValueError("stems, sample_rate, segment and validation_segments: at least 1")


@dataclass(frozen=True)
class TrainConfig:
    """A training run's TOML file, section by section."""

    data: DataConfig
    model: dict[str, Any] = field(default_factory=dict)
    noise: dict[str, Any] = field(default_factory=dict)
    leakage: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    prior_schedule: dict[str, Any] = field(default_factory=lambda: {"kind": "karras"})


def other_settings(
    whose: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    otherwise: str,
    free: Collection[str] = (),
) -> str:
    """What of the settings differs from those of ``whose`` weights, in words; "" if nothing does.

    Raises UserError where these weights cannot go on so; ``otherwise`` says what can be done.
    ``free``: settings in which they may, of those that a run keeps.
    """
    from mgdm_audio.training_state import differences

    found = differences(old, new)
    for key, change in found.items():
        if key.startswith(FIXED) and key not in free:
            raise UserError(
                f"{whose}: was trained with another {key} ({change}); "
                f"set it as it was, or {otherwise}"
            )
    return ", ".join(f"{key} {change}" for key, change in found.items())


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Run folder.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key, e.g. schedule.steps=200.",
)
@click.option("--init", type=PRIOR, help="Prior to start from: its weights and its level.")
def train(config: Path, output: Path, overrides: tuple[str, ...], init: str | None) -> None:
    """Train a prior by denoising score matching.

    The run folder holds log.jsonl, the state to resume from, and prior/, a prior directory with the
    averaged weights of the last save, usable at once:  mgdm-audio separate SONG --prior RUN/prior
    -o OUT.  Many devices:  torchrun --nproc-per-node 4 -m mgdm_audio.cli.main train CONFIG -o RUN.

    The same command resumes a stopped run. Its schedule may be another then: a "stable" one ends
    soon with  --set schedule.steps=N,  N the last step in log.jsonl plus schedule.decay.

    \b
    mgdm-audio train conf.toml -o RUN
    mgdm-audio train conf.toml -o SHORT --set schedule.steps=200 --init RUN/prior
    """
    import torch
    from tqdm import tqdm

    from mgdm_audio.audio.augmentation import Augmentation
    from mgdm_audio.audio.datasets import StemFolder
    from mgdm_audio.audio.leakage import Leakage
    from mgdm_audio.audio.resident import ResidentStems
    from mgdm_audio.checkpoint import load_prior, read_config, save_prior
    from mgdm_audio.config import ConfigError, apply_overrides, from_mapping, load_toml
    from mgdm_audio.diffusion.schedule import NoiseSchedule
    from mgdm_audio.networks.tf_unet import TFUNet, TFUNetConfig
    from mgdm_audio.rng import generator_for
    from mgdm_audio.train import NoiseLevels, Schedule, Training
    from mgdm_audio.train import train as run
    from mgdm_audio.training_state import STATE, read_settings

    where = str(config)
    parsed = from_mapping(TrainConfig, apply_overrides(load_toml(config), list(overrides)), where)
    data = parsed.data
    shape = from_mapping(TFUNetConfig, parsed.model, f"{where}: model")
    augment = from_mapping(Augmentation, data.augment, f"{where}: data.augment")
    noise = from_mapping(NoiseLevels, parsed.noise, f"{where}: noise")
    leakage = from_mapping(Leakage, parsed.leakage, f"{where}: leakage")
    schedule = from_mapping(Schedule, parsed.schedule, f"{where}: schedule")
    training = from_mapping(Training, parsed.training, f"{where}: training")
    shape = replace(shape, sources=len(data.stems))
    try:
        levels = NoiseSchedule.from_config(parsed.prior_schedule)
    except ValueError as error:
        raise ConfigError(f"{where}: prior_schedule: {error}") from None
    if data.segment % shape.bins:
        raise UserError(f"{where}: data.segment = {data.segment}: give a multiple of {shape.bins}")
    if len(data.stems) == 1 and noise.given > 0:
        raise UserError(
            f"{where}: noise.given = {noise.given:g}: the mixture of one stem is that stem; "
            "give --set noise.given=0"
        )
    if len(data.stems) == 1 and leakage.share > 0:
        raise UserError(
            f"{where}: leakage.share = {leakage.share:g}: one stem has no other to leak into; "
            "give --set leakage.share=0"
        )
    settings: dict[str, Any] = {
        "model": asdict(shape),
        "data": asdict(data) | {"augment": asdict(augment)},
        "noise": asdict(noise),
        "leakage": asdict(leakage),
        "training": asdict(training),
    }
    before = read_settings(output / STATE)
    level = before.pop("mixture_rms", None)
    changed = other_settings(str(output / STATE), before, settings, "train in another folder")

    def open_folder(skip: Collection[str] = ()) -> StemFolder:
        return StemFolder(data.train, data.stems, data.sample_rate, data.train_split, skip)

    rank = os.environ.get("LOCAL_RANK", "0")  # torchrun's: each process has its own device
    first = os.environ.get("RANK", "0") == "0"  # the one that reports
    device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
    songs = ResidentStems(open_folder, device) if data.resident else open_folder()
    drawn = 0
    held_out = None
    if data.validation:
        split = data.validation_split
        folder = StemFolder(data.validation, data.stems, data.sample_rate, split)
        held_out = folder.fixed(data.validation_segments, data.segment)

    def batches(size: int, generator: torch.Generator) -> torch.Tensor:
        nonlocal drawn
        drawn += 1
        if isinstance(songs, ResidentStems) and data.refresh and drawn % data.refresh == 0:
            songs.refresh()
        return songs.batch(size, data.segment, augment, generator)

    def leak(x_0: torch.Tensor, sigma: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return leakage.draw(x_0, sigma, data.sample_rate, generator)

    with torch.random.fork_rng():  # initial weights come from torch's global state, left as it was
        torch.manual_seed(training.seed)
        network = TFUNet(shape)
    if init is not None:
        start = load_prior(init)
        theirs = {
            "model": asdict(read_config(init).shape),
            "data": {"stems": start.stems, "sample_rate": start.sample_rate},
        }
        other_settings(f"--init {init}", theirs, settings, "start from another prior", FREE)
        network.load_state_dict(start.network.state_dict())
        level = level or start.mixture_rms
    if level is None:
        sample = torch.cat(
            [batches(8, generator_for(training.seed, "statistics", i)).cpu() for i in range(40)]
        )
        network.measure(sample)
        level = round(float(sample.sum(1).square().mean().sqrt()), 5)

    details = {
        "schedule": levels.to_config(),
        "stems": list(data.stems),
        "sample_rate": data.sample_rate,
        "mixture_rms": level,
        "segment": 2**18,
    }

    def export(net: torch.nn.Module, step: int) -> None:
        save_prior(output / "prior", net, shape, "tf_unet", details | {"step": step})

    if changed and first:
        click.echo(f"{output}: goes on with other settings: {changed}", err=True)
    shown = first and sys.stderr.isatty()
    bar = tqdm(total=schedule.steps, unit="step", disable=not shown, smoothing=0.02)

    def progress(step: int, total: int, values: dict[str, float]) -> None:
        bar.n = step
        bar.set_postfix_str(" ".join(f"{k} {v:.4g}" for k, v in values.items()), refresh=False)
        bar.update(0)

    state = run(
        network,
        batches,
        held_out,
        output,
        noise,
        schedule,
        training,
        export=export,
        disturb=leak if leakage.share > 0 else None,
        progress=progress,
        settings=settings | {"mixture_rms": level},
    )
    bar.close()
    if first:
        click.echo(f"step {state.step}: the prior is in {output / 'prior'}")
