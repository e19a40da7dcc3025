"""A training run of a prior over small images, in pixels or, with an autoencoder, in latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.config import ConfigError, from_mapping
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.errors import UserError
from mgdm_audio.images.io import read_image
from mgdm_audio.networks.autoencoder_2d import Autoencoder2d, Autoencoder2dConfig
from mgdm_audio.networks.unet_2d import UNet2d, UNet2dConfig
from mgdm_audio.priors.folder import CONFIG
from mgdm_audio.priors.images.trained_images import load_autoencoder, save_autoencoder, save_trained
from mgdm_audio.rng import generator_for
from mgdm_audio.training.card import About, card
from mgdm_audio.training.log import LOG
from mgdm_audio.training.loop import Batches, Progress, train
from mgdm_audio.training.settings import NoiseLevels, Schedule, Training
from mgdm_audio.training.state import run_folder


@dataclass(frozen=True)
class Augmentation:
    """Section [augment]: a random affine map of some of the pictures, their edges repeated."""

    share: float = 0.0  # of the pictures
    rotation: float = 0.0  # degrees, at most, either way
    scale: float = 0.0  # share of the size, at most, either way
    shear: float = 0.0  # tangent of the angle, at most, either way

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """``[batch, channels, height, width]`` of the same."""
        chosen = torch.rand(len(x), generator=generator) < self.share
        angle, growth, shear = 2 * torch.rand(3, len(x), generator=generator) - 1
        angle, shear = angle * math.radians(self.rotation), shear * self.shear
        growth = (1 + growth * self.scale)[:, None]
        rows = [torch.stack([angle.cos(), shear - angle.sin(), torch.zeros(len(x))], 1),
                torch.stack([angle.sin(), angle.cos(), torch.zeros(len(x))], 1)]  # fmt: skip
        grid = F.affine_grid(
            torch.stack([growth * row for row in rows], 1), list(x.shape), align_corners=False
        )
        moved = F.grid_sample(x, grid, "bicubic", padding_mode="border", align_corners=False)
        return torch.where(chosen[:, None, None, None], moved.clamp(-1, 1), x)


@dataclass(frozen=True)
class Config:
    """A training run's TOML file, section by section."""

    shape: tuple[int, int, int]  # channels, height and width of the pictures
    images: str = ""  # folder with train/*.png and validation/*.png, all of that shape
    model: dict[str, Any] = field(default_factory=dict)  # the network, a section of its own
    autoencoder: Autoencoder2dConfig | None = None  # with it, the prior is latent
    autoencoder_training: Schedule = field(default_factory=Schedule)  # as [schedule]
    augment: Augmentation = field(default_factory=Augmentation)  # a section of its own
    noise: NoiseLevels = field(default_factory=NoiseLevels)  # as over stems
    schedule: Schedule = field(default_factory=Schedule)  # as over stems
    training: Training = field(default_factory=Training)  # as over stems
    prior_schedule: dict[str, Any] = field(default_factory=lambda: {"kind": "karras"})  # as there


def pictures(folder: Path, shape: tuple[int, int, int]) -> Tensor:
    """``[image, *shape]`` in [-1, 1], in order of the files' names."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise UserError(f"{folder}: holds no .png images")
    return torch.stack([read_image(file, shape).x for file in files])


def seeded(seed: int, build: Any) -> Any:
    with torch.random.fork_rng(devices=[]):  # initial weights come from torch's global state
        torch.manual_seed(seed)
        return build()


def fit_autoencoder(
    shape: Autoencoder2dConfig,
    config: Config,
    batches: Batches,
    validation: Tensor,
    folder: Path,
    on_progress: Progress | None,
    on_note: Callable[[str], None],
) -> Autoencoder2d:
    """The autoencoder in ``folder``, trained if it is not there."""
    if (folder / CONFIG).is_file():
        return load_autoencoder(folder)
    seed, schedule = config.training.seed, config.autoencoder_training
    network = seeded(seed, lambda: Autoencoder2d(shape))
    optimiser = torch.optim.Adam(network.parameters())
    for step in range(schedule.steps):
        generator = generator_for(seed, "autoencoder", step)
        loss = network.loss(batches(config.training.batch, generator), generator).mean()
        optimiser.param_groups[0]["lr"] = schedule.at(step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if on_progress is not None:
            on_progress(step + 1, schedule.steps, {"loss": loss.item()})
    network.eval().requires_grad_(False)
    error = (network.decode(network.encode(validation)) - validation).square().mean()
    psnr = 10 * math.log10(4 / float(error))
    save_autoencoder(folder, network, {"validation_psnr_db": round(psnr, 2)})
    on_note(f"autoencoder: {psnr:.2f} dB PSNR of its validation pictures")
    return network


def _about(output: Path, config: Config, counts: tuple[int, int]) -> About:
    """``counts``: images to train on and to validate on."""
    channels, height, width = config.shape
    colours = "grey" if channels == 1 else f"{channels} channels"
    splits = zip(("train", "validation"), ("training", "validation"), counts, strict=True)
    root = Path(config.images)
    kind = "`unet_2d`" if config.autoencoder is None else "`unet_2d` on latents, `autoencoder_2d`"
    return About(
        name=output.resolve().name,
        kind=kind,
        over=f"images of {width} x {height} pixels, {colours}",
        data={name: (count, root / folder) for folder, name, count in splits},
        item="image",
        example="an image each",
        command="mgdm-audio restore image.png -o out --task sr4 --prior FOLDER",
        tag="image-restoration",
    )


def _network(config: Config, sample: Tensor, where: str) -> UNet2d:
    """The network, with the statistics of ``sample`` where ``config.model`` does not set them."""
    if not float(sample.std()) > 5e-5:  # else 0 in the digits that are kept
        folder = Path(config.images) / "train"
        raise UserError(f"{folder}: all pictures are one and the same grey; give others")
    measured = {"sigma_data": round(float(sample.std()), 4), "channels": sample.shape[1]}
    model = from_mapping(UNet2dConfig, measured | config.model, f"{where}: model")
    return seeded(config.training.seed, lambda: UNet2d(model))


def run_images(
    table: Mapping[str, Any],
    output: Path,
    where: str,
    init: str | Path | None,
    on_progress: Progress | None,
    on_note: Callable[[str], None],
) -> Path:
    """See ``run.train``; ``init`` is for stems and must be None."""
    if init is not None:
        raise UserError(f"--init {init}: only priors over stems start from another; leave it out")
    config = from_mapping(Config, table, where)
    if not config.images:
        raise UserError(f"{where}: lacks 'images'; give --set images=FOLDER")
    try:
        levels = NoiseSchedule.from_config(config.prior_schedule)
    except ValueError as error:
        raise ConfigError(f"{where}: prior_schedule: {error}") from None
    root = Path(config.images)
    x, held_out = (pictures(root / split, config.shape) for split in ("train", "validation"))

    def augmented(size: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(x), (size,), generator=generator)
        return config.augment(x[chosen], generator)

    codec: Autoencoder2d | None = None
    batches: Batches = augmented
    if config.autoencoder is not None:
        shape = replace(config.autoencoder, channels=config.shape[0])
        folder = output / "autoencoder"
        with run_folder(output):
            codec = fit_autoencoder(
                shape, config, augmented, held_out, folder, on_progress, on_note
            )
        batches, held_out = encoded(codec, augmented), codec.encode(held_out)
    sample = batches(1000, generator_for(config.training.seed, "statistics"))
    network = _network(config, sample, where)
    prior, size = output / "prior", (int(sample.shape[-2]), int(sample.shape[-1]))
    about = _about(output, config, (len(x), len(held_out)))
    trained = [] if codec is None else [codec]

    def export(network: Any, step: int) -> None:
        nets, log = [network, *trained], output / LOG
        text = card(prior, about, nets, step, config.schedule, config.training, log)
        save_trained(prior, network, levels, size, codec, {"step": step}, text)

    train(
        network,
        batches,
        held_out,
        output,
        config.noise,
        config.schedule,
        config.training,
        export=export,
        progress=on_progress,
        note=on_note,
    )
    return prior


def encoded(codec: Autoencoder2d, batches: Batches) -> Batches:
    """Batches of the latents of pictures."""

    @torch.no_grad()
    def latents(size: int, generator: torch.Generator) -> Tensor:
        return codec.encode(batches(size, generator))

    return latents
