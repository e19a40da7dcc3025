"""Train a prior over small pictures, in pixels or, with an autoencoder, in latents.

    python train_images.py CONF IMAGES -o EXP

learns from the images in IMAGES/train, all of one size, and measures on IMAGES/validation. The
prior is in EXP/prior, for mgdm-audio restore --prior. A stopped run goes on with the same command.
"""

import argparse
import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from script import run
from torch import Tensor
from tqdm import trange

from mgdm_audio.checkpoint import CONFIG
from mgdm_audio.config import apply_overrides, from_mapping, load_toml
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.errors import UserError
from mgdm_audio.images.io import read_image
from mgdm_audio.images.priors.trained import load_autoencoder, save_autoencoder, save_trained
from mgdm_audio.networks.autoencoder_2d import Autoencoder2d, Autoencoder2dConfig
from mgdm_audio.networks.unet_2d import UNet2d, UNet2dConfig
from mgdm_audio.rng import generator_for
from mgdm_audio.train import NoiseLevels, Schedule, Training, train


@dataclass(frozen=True)
class Augmentation:
    """Section [augment]: a random affine map of some of the pictures, their edges repeated."""

    share: float = 0.0  # of the pictures
    rotation: float = 0.0  # degrees, at most, either way
    scale: float = 0.0
    shear: float = 0.0

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
    model: dict[str, Any] = field(default_factory=dict)
    autoencoder: Autoencoder2dConfig | None = None  # with it, the prior is latent
    autoencoder_training: Schedule = field(default_factory=Schedule)
    augment: Augmentation = field(default_factory=Augmentation)
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    schedule: Schedule = field(default_factory=Schedule)
    training: Training = field(default_factory=Training)
    prior_schedule: dict[str, Any] = field(default_factory=lambda: {"kind": "karras"})


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
    shape: Autoencoder2dConfig, config: Config, batches: Any, validation: Tensor, folder: Path
) -> Autoencoder2d:
    """The autoencoder in ``folder``, trained if it is not there."""
    if (folder / CONFIG).is_file():
        return load_autoencoder(folder)
    seed, schedule = config.training.seed, config.autoencoder_training
    network = seeded(seed, lambda: Autoencoder2d(shape))
    optimiser = torch.optim.Adam(network.parameters())
    for step in trange(schedule.steps, disable=not sys.stderr.isatty()):
        generator = generator_for(seed, "autoencoder", step)
        loss = network.loss(batches(config.training.batch, generator), generator).mean()
        optimiser.param_groups[0]["lr"] = schedule.at(step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval().requires_grad_(False)
    error = (network.decode(network.encode(validation)) - validation).square().mean()
    psnr = 10 * math.log10(4 / float(error))
    save_autoencoder(folder, network, {"validation_psnr_db": round(psnr, 2)})
    print(f"autoencoder: {psnr:.2f} dB PSNR of its validation pictures")
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    table = apply_overrides(load_toml(options.config), options.set)
    config = from_mapping(Config, table, str(options.config))
    levels = NoiseSchedule.from_config(config.prior_schedule)
    x, held_out = (pictures(options.images / s, config.shape) for s in ("train", "validation"))

    def augmented(size: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(x), (size,), generator=generator)
        return config.augment(x[chosen], generator)

    codec, batches = None, augmented
    if config.autoencoder is not None:
        shape = replace(config.autoencoder, channels=config.shape[0])
        folder = options.output / "autoencoder"
        codec = fit_autoencoder(shape, config, augmented, held_out, folder)
        held_out = codec.encode(held_out)

        @torch.no_grad()
        def batches(size: int, generator: torch.Generator) -> Tensor:
            return codec.encode(augmented(size, generator))

    sample = batches(1000, generator_for(config.training.seed, "statistics"))
    measured = {"sigma_data": round(float(sample.std()), 4), "channels": sample.shape[1]}
    model = from_mapping(UNet2dConfig, measured | config.model, f"{options.config}: model")
    network = seeded(config.training.seed, lambda: UNet2d(model))
    prior = options.output / "prior"

    def export(network: Any, step: int) -> None:
        save_trained(prior, network, levels, tuple(sample.shape[-2:]), codec, {"step": step})

    state = train(network, batches, held_out, options.output, config.noise, config.schedule,
                  config.training, export=export)  # fmt: skip
    print(f"step {state.step}: the prior is in {prior}")


if __name__ == "__main__":
    run(main)
