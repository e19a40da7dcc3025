"""Image priors trained by this package, in the format of priors over stems.

FOLDER/config.json        model_type "unet_2d", model, schedule, size, sha256
FOLDER/model.safetensors
FOLDER/autoencoder/       the same two, of model_type "autoencoder_2d", where it is latent
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mgdm_audio.atomic import recover, replaced_folder
from mgdm_audio.config import convert, from_mapping
from mgdm_audio.diffusion import Codec, NoiseSchedule, Prior
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.networks.autoencoder_2d import Autoencoder2d, Autoencoder2dConfig
from mgdm_audio.networks.unet_2d import UNet2d, UNet2dConfig
from mgdm_audio.priors.architectures import ARCHITECTURES
from mgdm_audio.priors.folder import write_files
from mgdm_audio.priors.hub import CARD
from mgdm_audio.priors.images.image_prior import ImagePrior, Shape, read_json, ready
from mgdm_audio.priors.tensor_files import CONFIG, WEIGHTS, open_network, outline

AUTOENCODER = "autoencoder"
LARGEST = 2**16  # pixels of a side
KINDS: dict[str, type[Any]] = {"unet_2d": UNet2dConfig, "autoencoder_2d": Autoencoder2dConfig}


@dataclass(frozen=True)
class TrainedConfig:
    """The checked contents of config.json; the weights are not opened."""

    path: Path
    network: UNet2dConfig
    schedule: NoiseSchedule
    size: tuple[int, int]  # height and width of the diffused variable in training
    autoencoder: Autoencoder2dConfig | None
    config: dict[str, Any]  # the file's content

    @property
    def image_shape(self) -> Shape:
        if self.autoencoder is None:
            return (self.network.channels, *self.size)
        factor = self.autoencoder.factor
        return (self.autoencoder.channels, factor * self.size[0], factor * self.size[1])

    def networks(self) -> dict[Path, nn.Module]:
        """Each, without memory for its weights, by the file of these. UserError."""
        weights = self.path / WEIGHTS
        result = {weights: outline(lambda: UNet2d(self.network), weights)}
        if (shape := self.autoencoder) is not None:
            weights = self.path / AUTOENCODER / WEIGHTS
            result[weights] = outline(lambda: Autoencoder2d(shape), weights)
        return result


def read_trained(folder: Path) -> TrainedConfig:
    """Raises UserError for what does not fit."""
    recover(folder)
    network, config = _read(folder, "unet_2d")
    try:
        schedule = NoiseSchedule.from_config(config["schedule"])
        height, width = convert(tuple[int, int], config["size"], "size")
        if not (1 <= height <= LARGEST and 1 <= width <= LARGEST):
            raise ValueError(f"size {config['size']}: give height and width in pixels")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{folder / CONFIG}: {reason}; the file is damaged, fetch it again"
                        ) from None  # fmt: skip
    autoencoder = None
    if (folder / AUTOENCODER).is_dir():
        autoencoder = _read(folder / AUTOENCODER, "autoencoder_2d")[0]
        if autoencoder.latent_channels != network.channels:
            raise UserError(
                f"{folder}: the network takes {network.channels} channels, its autoencoder "
                f"has {autoencoder.latent_channels}"
            )
    return TrainedConfig(folder, network, schedule, (height, width), autoencoder, config)


def load_trained(folder: Path, device: torch.device | str = "cpu") -> ImagePrior:
    """Loads the prior in a folder of this format. Raises UserError for invalid contents."""
    read = read_trained(folder)
    network, own = open_network(
        lambda: UNet2d(read.network), folder / WEIGHTS, read.config.get("sha256")
    )
    sha256 = {WEIGHTS: own}
    codec: Codec | None = None
    if read.autoencoder is not None:
        codec = load_autoencoder(folder / AUTOENCODER, device)
        sha256[f"{AUTOENCODER}/{WEIGHTS}"] = hash_file(folder / AUTOENCODER / WEIGHTS)
    event_shape = (read.network.channels, *read.size)
    prior = Prior(ready(network, device), read.schedule, event_shape, codec)
    return ImagePrior(prior, folder.resolve().name, read.image_shape, sha256)


def load_autoencoder(folder: Path, device: torch.device | str = "cpu") -> Autoencoder2d:
    """Loads the codec in a folder. Raises UserError for invalid contents."""
    recover(folder)
    shape, config = _read(folder, "autoencoder_2d")
    network, _ = open_network(lambda: Autoencoder2d(shape), folder / WEIGHTS, config.get("sha256"))
    return ready(network, device)


def save_trained(
    folder: Path,
    network: UNet2d,
    schedule: NoiseSchedule,
    size: tuple[int, int],
    autoencoder: Autoencoder2d | None = None,
    details: dict[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Write a folder that ``load_trained`` opens, all of its files or none. Raises UserError.

    ``size``: height and width of what the network was trained on, pictures or latents;
    ``details``: more for config.json; ``card``: the text of README.md, see ``save_prior``. Files of
    other names in ``folder`` stay.
    """
    facts = (details or {}) | {"schedule": schedule.to_config(), "size": list(size)}
    cards = () if card is None else (CARD,)
    with replaced_folder(folder, own=(CONFIG, WEIGHTS, AUTOENCODER, *cards)) as partial:
        write_files(partial, network, network.config, "unet_2d", facts)
        if autoencoder is not None:
            shape, more = autoencoder.config, details or {}
            write_files(partial / AUTOENCODER, autoencoder, shape, "autoencoder_2d", more)
        if card is not None:
            (partial / CARD).write_text(card, encoding="utf-8")


def save_autoencoder(
    folder: Path, autoencoder: Autoencoder2d, details: dict[str, Any] | None = None
) -> None:
    """Write a folder that ``load_autoencoder`` opens; ``details``: more for config.json."""
    with replaced_folder(folder, own=(CONFIG, WEIGHTS)) as partial:
        write_files(partial, autoencoder, autoencoder.config, "autoencoder_2d", details or {})


def _read(folder: Path, kind: str) -> tuple[Any, dict[str, Any]]:
    """Returns the network's config and the file's contents."""
    config = read_json(folder / CONFIG)
    found = config.get("model_type")
    if isinstance(found, str) and found in ARCHITECTURES:
        raise UserError(f"{folder}: a prior for sound ({found}); give it to mgdm-audio separate")
    if found != kind:
        raise UserError(f"{folder / CONFIG}: model_type {found!r}; "
                        f"a prior for images has {kind!r} here")  # fmt: skip
    if not isinstance(config.get("model"), dict):
        raise UserError(f"{folder / CONFIG}: model is no table; it is no prior's config")
    return from_mapping(KINDS[kind], config["model"], f"{folder / CONFIG}: model"), config
