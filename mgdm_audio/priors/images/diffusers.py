"""Priors on disk in the format of diffusers: a pixel U-Net, or an autoencoder and its U-Net.

    FOLDER/unet/config.json, *.safetensors               UNet2DModel or UNet2DConditionModel
    FOLDER/scheduler/scheduler_config.json
    FOLDER/{vae, vqvae}/config.json, *.safetensors       where it is latent
    FOLDER/empty_prompt.safetensors                      the empty text, see prompts.py

Pixel priors of the oldest layout, with both files in FOLDER itself, are supported. Classes are
looked up in a fixed list, only safetensors are opened, and nothing is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mgdm_audio.diffusion import Codec, Prior
from mgdm_audio.diffusion.denoiser import Network
from mgdm_audio.errors import UserError
from mgdm_audio.priors.images.image_prior import (
    ImagePrior,
    Shape,
    at_its_own_steps,
    hashes,
    read_json,
    ready,
)
from mgdm_audio.priors.images.prompts import PROMPT, no_text
from mgdm_audio.priors.images.schedules import schedule_of
from mgdm_audio.priors.tensor_files import require_finite

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
UNETS = ("UNet2DModel", "UNet2DConditionModel")
AUTOENCODERS = ("VQModel", "AutoencoderKL")


def is_pipeline(folder: Path) -> bool:
    """Returns whether a folder has this format."""
    return any((folder / place).is_file() for place in ("unet/" + CONFIG, SCHEDULER))


def load_pipeline(folder: Path, device: torch.device | str = "cpu") -> ImagePrior:
    """Loads the prior in a folder written by diffusers' ``save_pretrained``.

    Raises UserError, in one line, for a missing library, file or key, for a class that is not one
    of ``UNETS`` and ``AUTOENCODERS``, and for a network that needs a class label or a text.
    """
    place = folder / "unet" if (folder / "unet").is_dir() else folder
    unet: Any = _load(place, UNETS, device)
    schedules = (folder / "scheduler" / SCHEDULER, folder / SCHEDULER)
    path = next((p for p in schedules if p.is_file()), schedules[0])
    config = read_json(path)
    codec, image_shape = _codec(folder, unet, device)
    event_shape = (int(unet.config["in_channels"]), *_size(unet, place))
    network = _network(unet, folder, image_shape or event_shape, device)
    try:
        schedule = schedule_of(config)
        denoiser = at_its_own_steps(network, config.get("prediction_type", "epsilon"), schedule)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    weights = [p for p in folder.rglob("*.safetensors") if p.parent in (place, *_places(folder))]
    weights += [folder / PROMPT] * (folder / PROMPT).is_file()
    return ImagePrior(
        Prior(denoiser, schedule, event_shape, codec),
        folder.resolve().name,
        image_shape or event_shape,
        hashes(folder, list(dict.fromkeys(weights))),
        _multiple(unet),
    )


def _places(folder: Path) -> list[Path]:
    """Returns the folders of autoencoders."""
    return [folder / name for name in ("vae", "vqvae") if (folder / name / CONFIG).is_file()]


def _load(place: Path, known: tuple[str, ...], device: torch.device | str) -> nn.Module:
    """Loads the network of diffusers in a folder, all of whose weights must be in its file."""
    try:
        import diffusers
    except ImportError:
        raise UserError(
            f"{place}: is in the format of diffusers: pip install 'mgdm_audio[images]'"
        ) from None
    config = read_json(place / CONFIG)
    name = config.get("_class_name")
    if name not in known:
        raise UserError(
            f"{place / CONFIG}: _class_name {name!r} is unknown; known: {', '.join(known)}"
        )
    if not any(place.glob("*.safetensors")):
        raise UserError(
            f"{place}: contains no .safetensors; pickled weights are never opened, "
            "convert them to safetensors first"
        )
    try:
        network, info = getattr(diffusers, name).from_pretrained(
            place,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{place}: diffusers cannot open it ({reason})") from None
    for what, keys in (("lacks", info["missing_keys"]), ("has unknown", info["unexpected_keys"])):
        if keys:
            first = sorted(keys)[0]
            raise UserError(f"{place}: {what} {first!r} ({len(keys)} in all); it does not fit "
                            f"{CONFIG}")  # fmt: skip
    require_finite(network.state_dict(), place)
    return ready(network, device)


def _size(unet: Any, place: Path) -> tuple[int, int]:
    """Returns the height and width of training."""
    size = unet.config.get("sample_size")
    sizes = [size, size] if isinstance(size, int) else size
    if not isinstance(sizes, list | tuple) or len(sizes) != 2:
        raise UserError(f"{place / CONFIG}: sample_size {size!r}: give height and width in pixels")
    return int(sizes[0]), int(sizes[1])


def _multiple(unet: Any) -> int:
    """Returns the divisor of the network's heights and widths, 1 if it is text-conditioned."""
    if unet.config.get("cross_attention_dim") is not None:
        return 1
    return int(2 ** (len(unet.config["block_out_channels"]) - 1))


def _codec(
    folder: Path, unet: Any, device: torch.device | str
) -> tuple[Codec | None, Shape | None]:
    """Returns the codec and the shape of an image if the prior is latent."""
    places = _places(folder)
    if not places:
        return None, None
    autoencoder: Any = _load(places[0], AUTOENCODERS, device)
    config = autoencoder.config
    latent, channels = int(config["latent_channels"]), int(unet.config["in_channels"])
    if latent != channels:
        raise UserError(
            f"{folder}: the network takes {channels} channels, its autoencoder has {latent}; "
            "give a prior whose only input is its latent"
        )
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    height, width = _size(unet, folder / "unet")
    return LatentCodec(autoencoder), (int(config["out_channels"]), factor * height, factor * width)


def _network(unet: Any, folder: Path, image_shape: Shape, device: torch.device | str) -> Network:
    """Returns ``(x_t, step) -> output`` without the channels of a learned variance."""
    channels = int(unet.config["in_channels"])
    if int(unet.config["out_channels"]) not in (channels, 2 * channels):
        raise UserError(f"{folder}: out_channels is neither in_channels nor, with a learned "
                        "variance, twice as many")  # fmt: skip
    if getattr(unet, "class_embedding", None) is not None:
        raise UserError(f"{folder}: the network needs a class label; give an unconditional one")
    given = no_text(unet, folder, image_shape, device)

    def network(x: Tensor, step: Tensor) -> Tensor:
        output: Tensor = unet(x, step, **given(len(x))).sample
        return output[:, :channels]

    return network


class LatentCodec:
    """Adapts ``AutoencoderKL`` or ``VQModel``: ``[batch, 3, H, W]`` <-> ``[batch, c, H/f, W/f]``.

    Latents have the units of the network's training: the autoencoder's minus its shift, times its
    scale. A variational encoder returns its mean. A VQ decoder quantises its input with a
    straight-through gradient.
    """

    def __init__(self, autoencoder: nn.Module) -> None:
        self.autoencoder: Any = autoencoder
        config: Any = autoencoder.config
        self.scale = float(config.get("scaling_factor") or 1.0)
        self.shift = float(config.get("shift_factor") or 0.0)

    def encode(self, x: Tensor) -> Tensor:
        coded = self.autoencoder.encode(x)
        z: Tensor = coded.latents if hasattr(coded, "latents") else coded.latent_dist.mean
        return (z - self.shift) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self.autoencoder.decode(z / self.scale + self.shift).sample
        return x
