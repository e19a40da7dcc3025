"""The layers of guided-diffusion's U-Net, read off a checkpoint and named as in diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

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
    """Arguments of ``UNet2DModel`` for a checkpoint's tensors.

    Raises ``ValueError`` or ``KeyError`` for tensors of another network.
    """
    if "label_emb.weight" in tensors:
        raise ValueError("it needs a class label; give an unconditional one")
    blocks = 1 + max(int(m[1]) for n in tensors if (m := re.match(r"input_blocks\.(\d+)\.", n)))
    ups = [n for n in tensors if re.match(r"output_blocks\.\d+\.[12]\.in_layers\.0\.weight$", n)]
    if not ups:
        raise ValueError("resblock_updown = False")
    per_level = 1 + min(int(name.split(".")[1]) for name in ups)  # residual blocks, and one to move
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
    """A checkpoint's tensors by the names of ``UNet2DModel`` with ``layers`` a block.

    Attention holds query, key and value of one head after the other; there, of all heads.
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
    """Of a block's part ``index``, under the names of diffusers."""
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
