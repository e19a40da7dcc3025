"""Checkpoints of guided-diffusion (ADM, arXiv 2105.05233), which have no config file.

The pixel priors of the MGDM paper have this format: FFHQ 256 (ILVR's, 128 channels) and ImageNet
256, unconditional. The network is diffusers' ``UNet2DModel``, which has the same layers under other
names; its shape follows from the tensors. It is tested against deepinv's port of the original.

Settings that are not in the file are assumed: 1000 steps of linear betas from 1e-4 to .02,
predicted noise, and attention heads of 64 channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.diffusion import NoiseSchedule, Prior
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.priors.images.image_prior import (
    ImagePrior,
    at_its_own_steps,
    ready,
    require_size,
)
from mgdm_audio.priors.tensor_files import fill, read_tensors
from mgdm_audio.reading import require_regular

HEAD = 64  # channels of an attention head
SIZES = {(1, 1, 2, 2, 4, 4): 256, (1, 1, 2, 3, 4): 128, (1, 2, 3, 4): 64}
"""Multiples of the channels per level -> edge of the image: guided-diffusion's own table."""


def load_adm(
    path: Path,
    device: torch.device | str = "cpu",
    *,
    image_size: int | None = None,
    head: int = HEAD,
) -> ImagePrior:
    """Loads the prior in a ``.pt`` or ``.safetensors`` file of guided-diffusion.

    ``image_size``: edge in pixels, by default the one for the network's channels in ``SIZES``. A
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
        raise UserError(f"{path}: is not a supported checkpoint of guided-diffusion: {reason}"
                        ) from None  # fmt: skip
    network: Any = UNet2DModel(**config)
    fill(network, renamed, path, "it is not a supported checkpoint of guided-diffusion")
    ready(network, device)
    channels = int(config["in_channels"])
    multiples = tuple(c // config["block_out_channels"][0] for c in config["block_out_channels"])
    size = SIZES.get(multiples) if image_size is None else image_size
    if size is None:
        raise UserError(f"{path}: does not determine the size of its images; give --size")
    require_size(str(path), size, 2 ** (len(multiples) - 1))

    def eps(x: Tensor, step: Tensor) -> Tensor:
        output: Tensor = network(x, step).sample
        return output[:, :channels]

    schedule = NoiseSchedule.linear()
    prior = Prior(at_its_own_steps(eps, "epsilon", schedule), schedule, (channels, size, size))
    return ImagePrior(prior, path.stem, (channels, size, size), {path.name: hash_file(path)})


def _read(path: Path) -> dict[str, Tensor]:
    """Reads name -> tensor without running code from the file."""
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)
        value = torch.load(require_regular(path), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch's reader may raise anything of a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: is no file of plain tensors ({reason})") from None
    if not isinstance(value, dict) or not all(isinstance(v, Tensor) for v in value.values()):
        raise UserError(f"{path}: holds more than a table of tensors; give the state dict alone")
    return value


RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def unet_config(tensors: Mapping[str, Tensor], head: int) -> dict[str, Any]:
    """Returns the arguments of ``UNet2DModel`` for a checkpoint's tensors.

    Raises ``ValueError`` or ``KeyError`` for tensors of another network.
    """
    if "label_emb.weight" in tensors:
        raise ValueError("it needs a class label; give an unconditional one")
    blocks = 1 + max(int(m[1]) for n in tensors if (m := re.match(r"input_blocks\.(\d+)\.", n)))
    ups = [n for n in tensors if re.match(r"output_blocks\.\d+\.[12]\.in_layers\.0\.weight$", n)]
    if not ups:
        raise ValueError("resblock_updown = False")
    per_level = 1 + min(int(name.split(".")[1]) for name in ups)  # residual blocks and a resampler
    if blocks % per_level:
        raise ValueError(f"{blocks} blocks do not make levels of {per_level}")
    firsts = [f"input_blocks.{1 + level * per_level}" for level in range(blocks // per_level)]
    channels = [len(tensors[f"{first}.0.out_layers.3.weight"]) for first in firsts]
    attends = [f"{first}.1.qkv.weight" in tensors for first in firsts]
    scale_shift = tensors[f"{firsts[0]}.0.emb_layers.1.weight"].shape[0] == 2 * channels[0]
    if not scale_shift:
        raise ValueError("use_scale_shift_norm = False")
    if odd := [c for c, on in zip(channels, [*attends[:-1], True], strict=True) if on and c % head]:
        raise ValueError(f"{odd[0]} channels do not divide into heads of {head}")
    down = ["AttnDownBlock2D" if on else "ResnetDownsampleBlock2D" for on in attends]
    up = ["AttnUpBlock2D" if on else "ResnetUpsampleBlock2D" for on in reversed(attends)]
    return {
        "in_channels": tensors["input_blocks.0.0.weight"].shape[1],
        "out_channels": tensors["out.2.weight"].shape[0],
        "block_out_channels": tuple(channels),
        "layers_per_block": per_level - 1,
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attention_head_dim": head,
        "attn_norm_num_groups": 32,
        "norm_num_groups": 32,
    }


def rename(tensors: Mapping[str, Tensor], layers: int, head: int) -> dict[str, Tensor]:
    """Returns a checkpoint's tensors by the names of ``UNet2DModel`` with ``layers`` per block.

    The checkpoint interleaves query, key and value by head; ``UNet2DModel`` has one of each.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block, _, last = name.rpartition(".")  # last: weight or bias
        tensor = tensor.float()
        if block in OUTER:
            result[f"{OUTER[block]}.{last}"] = tensor
            continue
        match = re.fullmatch(
            r"(?:(input|output)_blocks\.(\d+)|middle_block)\.(\d)\.([a-z_]+(?:\.\d)?)", block
        )
        if not match:
            raise ValueError(f"{name!r} is unknown")
        side, number, index, layer = match[1], int(match[2] or 0), int(match[3]), match[4]
        place = _place(side, number, index, layers, layer in RESNET)
        if layer in RESNET:
            result[f"{place}.{RESNET[layer]}.{last}"] = tensor
        elif layer == "norm":
            result[f"{place}.group_norm.{last}"] = tensor
        elif layer == "proj_out":
            result[f"{place}.to_out.0.{last}"] = tensor.squeeze(-1) if last == "weight" else tensor
        elif layer == "qkv":
            flat = tensor.squeeze(-1) if last == "weight" else tensor
            heads = flat.reshape(-1, 3, head, *flat.shape[1:])
            for i, part in enumerate("qkv"):
                result[f"{place}.to_{part}.{last}"] = heads[:, i].flatten(0, 1)
        else:
            raise ValueError(f"{name!r} is unknown")
    return result


def _place(side: str | None, number: int, index: int, layers: int, resnet: bool) -> str:
    """Returns the name in diffusers of a block's part ``index``."""
    if side is None:
        return f"mid_block.resnets.{index // 2}" if resnet else "mid_block.attentions.0"
    if side == "input":
        level, j = divmod(number - 1, layers + 1)
        if j == layers:
            return f"down_blocks.{level}.downsamplers.0"
        return f"down_blocks.{level}.{'resnets' if resnet else 'attentions'}.{j}"
    level, j = divmod(number, layers + 1)
    if resnet and index:
        return f"up_blocks.{level}.upsamplers.0"
    return f"up_blocks.{level}.{'resnets' if resnet else 'attentions'}.{j}"
