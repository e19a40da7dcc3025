"""Priors that this package trained: config.json and model.safetensors, as of stems.

FOLDER/config.json        model_type "unet_2d", model, schedule, size, sha256
FOLDER/model.safetensors
FOLDER/autoencoder/       the same two, of model_type "autoencoder_2d", where it is latent
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mgdm_audio.checkpoint import CONFIG, WEIGHTS, load_weights, save_prior
from mgdm_audio.config import from_mapping
from mgdm_audio.diffusion import Codec, NoiseSchedule, Prior
from mgdm_audio.errors import UserError
from mgdm_audio.images.priors.image_prior import ImagePrior, read_json, ready
from mgdm_audio.networks.autoencoder_2d import Autoencoder2d, Autoencoder2dConfig
from mgdm_audio.networks.unet_2d import UNet2d, UNet2dConfig

AUTOENCODER = "autoencoder"
KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "unet_2d": (UNet2dConfig, UNet2d),
    "autoencoder_2d": (Autoencoder2dConfig, Autoencoder2d),
}


def load_trained(folder: Path, device: torch.device | str = "cpu") -> ImagePrior:
    """The prior in a folder of this format. Raises UserError for what does not fit."""
    network, config, found = _load(folder, "unet_2d", device)
    try:
        schedule = NoiseSchedule.from_config(config["schedule"])
        height, width = (int(n) for n in config["size"])
        if height < 1 or width < 1:
            raise ValueError(f"size {config['size']}: give height and width in pixels")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{folder / CONFIG}: {reason}; the file is damaged, fetch it again"
                        ) from None  # fmt: skip
    sha256 = {WEIGHTS: found}
    event_shape = image_shape = (network.config.channels, height, width)
    codec: Codec | None = None
    if (folder / AUTOENCODER).is_dir():
        autoencoder, _, found = _load(folder / AUTOENCODER, "autoencoder_2d", device)
        codec, shape = autoencoder, autoencoder.config
        if shape.latent_channels != network.config.channels:
            raise UserError(
                f"{folder}: the network takes {network.config.channels} channels, its autoencoder "
                f"has {shape.latent_channels}"
            )
        image_shape = (shape.channels, autoencoder.factor * height, autoencoder.factor * width)
        sha256[f"{AUTOENCODER}/{WEIGHTS}"] = found
    prior = Prior(network, schedule, event_shape, codec)
    return ImagePrior(prior, folder.resolve().name, image_shape, sha256)


def save_trained(
    folder: Path,
    network: UNet2d,
    schedule: NoiseSchedule,
    size: tuple[int, int],
    autoencoder: Autoencoder2d | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Write a folder that ``load_trained`` opens.

    ``size``: height and width of what the network was trained on, pictures or latents;
    ``details``: more for config.json.
    """
    if autoencoder is not None:
        save_prior(
            folder / AUTOENCODER, autoencoder, autoencoder.config, "autoencoder_2d", details or {}
        )
    facts = {"schedule": schedule.to_config(), "size": list(size)}
    save_prior(folder, network, network.config, "unet_2d", {**(details or {}), **facts})


def _load(folder: Path, kind: str, device: torch.device | str) -> tuple[Any, dict[str, Any], str]:
    """The network, its config and the hash of its weights."""
    config = read_json(folder / CONFIG)
    if config.get("model_type") != kind:
        raise UserError(f"{folder / CONFIG}: model_type {config.get('model_type')!r}; "
                        f"a prior for images has {kind!r} here")  # fmt: skip
    shape, build = KINDS[kind]
    if not isinstance(config.get("model"), dict):
        raise UserError(f"{folder / CONFIG}: model is no table; it is no prior's config")
    network: nn.Module = build(from_mapping(shape, config["model"], f"{folder / CONFIG}: model"))
    found = load_weights(network, folder / WEIGHTS, config.get("sha256"))
    return ready(network, device), config, found
