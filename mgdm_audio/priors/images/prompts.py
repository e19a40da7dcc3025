"""The conditioning of a text-conditioned network on an empty text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.priors.images.image_prior import Shape, read_json
from mgdm_audio.priors.tensor_files import read_tensors

PROMPT = "empty_prompt.safetensors"


def no_text(
    unet: Any, folder: Path, image_shape: Shape, device: torch.device | str
) -> Callable[[int], dict[str, Any]]:
    """Returns a function of the batch size that gives the network's arguments for an empty text.

    FOLDER/empty_prompt.safetensors contains ``prompt_embeds: [1, tokens, width]`` and, for SDXL,
    ``pooled_prompt_embeds: [1, width]``: the text encoders' outputs for "". Without that file they
    are zeros if model_index.json sets ``force_zeros_for_empty_prompt``, as in SDXL's pipeline.
    Raises UserError where neither is there, and for another conditioning.
    """
    width = unet.config.get("cross_attention_dim")
    if width is None:  # a UNet2DModel
        return lambda batch: {}
    kind = unet.config.get("addition_embed_type")
    if not isinstance(width, int) or kind not in (None, "text_time"):
        raise UserError(f"{folder}: the network is conditioned on more than a text; supported: "
                        "Stable Diffusion and SDXL")  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"prompt_embeds": (1, 77, width)}
    if kind == "text_time":  # the input is the pooled text and six embedded sizes
        pooled = unet.config["projection_class_embeddings_input_dim"]
        shapes["pooled_prompt_embeds"] = (1, pooled - 6 * unet.config["addition_time_embed_dim"])
    index = folder / "model_index.json"
    if (folder / PROMPT).is_file():
        empty = _read_prompt(folder / PROMPT, shapes)
    elif index.is_file() and read_json(index).get("force_zeros_for_empty_prompt"):
        empty = {name: torch.zeros(shape) for name, shape in shapes.items()}
    else:
        raise UserError(
            f"{folder / PROMPT}: missing; save the text encoder's output for '' there, as "
            f"{' and '.join(shapes)}"
        )
    empty = {name: tensor.to(device, torch.float32) for name, tensor in empty.items()}
    height, width = image_shape[1:]
    # Original size, corner of the crop, target size, as in training.
    sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=device)

    def given(batch: int) -> dict[str, Any]:
        text = {name: tensor.expand(batch, *tensor.shape[1:]) for name, tensor in empty.items()}
        arguments: dict[str, Any] = {"encoder_hidden_states": text["prompt_embeds"]}
        if "pooled_prompt_embeds" in text:
            arguments["added_cond_kwargs"] = {
                "text_embeds": text["pooled_prompt_embeds"],
                "time_ids": sizes.expand(batch, -1),
            }
        return arguments

    return given


def _read_prompt(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    try:
        tensors = read_tensors(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from None
    for name, shape in shapes.items():
        found = tuple(tensors[name].shape) if name in tensors else None
        # The number of tokens may differ.
        if found is None or len(found) != len(shape) or (found[0], found[-1]) != (1, shape[-1]):
            raise UserError(f"{path}: {name} has shape {found}; it must be like {shape}")
    return {name: tensors[name] for name in shapes}
