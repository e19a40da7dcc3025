"""Checkpoints of guided-diffusion (ADM, arXiv 2105.05233), which has no config on disk.

The paper's pixel priors are of this form: FFHQ 256 (ILVR's, 128 channels) and ImageNet 256, the
unconditional one. The network is diffusers' ``UNet2DModel``, which has the same layers by other
names; its shape is read off the checkpoint's. Tested against deepinv's port of the original.

Taken for granted, as nothing in a file says it: 1000 steps of linear betas from 1e-4 to .02,
predicted noise, and attention heads of 64 channels.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mgdm_audio.checkpoint import fill
from mgdm_audio.diffusion import NoiseSchedule, Prior
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.images.priors.adm_layers import rename, unet_config
from mgdm_audio.images.priors.image_prior import (
    ImagePrior,
    at_its_own_steps,
    ready,
    require_size,
)

HEAD = 64  # channels of an attention head
SIZES = {(1, 1, 2, 2, 4, 4): 256, (1, 1, 2, 3, 4): 128, (1, 2, 3, 4): 64}
"""Multiples of the channels, a level -> edge of the image: guided-diffusion's own table."""


def load_adm(
    path: Path,
    device: torch.device | str = "cpu",
    *,
    image_size: int | None = None,
    head: int = HEAD,
) -> ImagePrior:
    """The prior in a ``.pt`` or ``.safetensors`` file of guided-diffusion.

    ``image_size``: edge in pixels, by default the one that goes with the network's channels. A
    ``.pt`` file is read as plain tensors only. Raises UserError, in one line, for any other file,
    for a network that needs a class label and for a size that it cannot halve at every level.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError:
        raise UserError(
            f"{path}: needs the network of diffusers: pip install 'mgdm_audio[images]'"
        ) from None
    tensors = _read(path)
    try:
        config = unet_config(tensors, head)
        renamed = rename(tensors, config["layers_per_block"], head)
    except (KeyError, IndexError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: is no checkpoint of guided-diffusion known here: {reason}"
                        ) from None  # fmt: skip
    network: Any = UNet2DModel(**config)
    fill(network, renamed, path, "it is no checkpoint of guided-diffusion known here")
    ready(network, device)
    channels = int(config["in_channels"])
    multiples = tuple(c // config["block_out_channels"][0] for c in config["block_out_channels"])
    size = SIZES.get(multiples) if image_size is None else image_size
    if size is None:
        raise UserError(f"{path}: does not say the size of its images; give it by --size")
    require_size(str(path), size, 2 ** (len(multiples) - 1))

    def eps(x: Tensor, step: Tensor) -> Tensor:
        output: Tensor = network(x, step).sample
        return output[:, :channels]

    schedule = NoiseSchedule.linear()
    prior = Prior(at_its_own_steps(eps, "epsilon", schedule), schedule, (channels, size, size))
    return ImagePrior(prior, path.stem, (channels, size, size), {path.name: hash_file(path)})


def _read(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, without running anything that the file might hold."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError,
            pickle.UnpicklingError) as error:  # fmt: skip
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: is no file of plain tensors ({reason})") from None
    if not isinstance(value, dict) or not all(isinstance(v, Tensor) for v in value.values()):
        raise UserError(f"{path}: holds more than a table of tensors; give the state dict alone")
    return value
