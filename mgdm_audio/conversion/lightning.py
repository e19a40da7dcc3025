"""A PyTorch Lightning checkpoint, read without running anything that it pickles.

Lightning stores a module's hyper-parameters beside its weights, and with them the objects that were
passed to it: in MSDM's training a ``LogNormalDistribution`` of audio-diffusion-pytorch. torch's
weights-only reader refuses every class but its own. For those of that package it is given one that
does nothing, so that none of them is imported; all others stay refused.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from mgdm_audio.errors import UserError

IGNORED = "audio_diffusion_pytorch."  # whose objects a checkpoint may hold: they are left out


@dataclass(frozen=True)
class LightningCheckpoint:
    """The tensors of ``state_dict``, mapped from the file, and what else was saved with them."""

    tensors: dict[str, Tensor]
    hyper_parameters: dict[str, Any]


class Ignored:
    """An object that keeps nothing of what it is made from."""

    def __new__(cls, *_: Any) -> "Ignored":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def read_lightning(path: Path) -> LightningCheckpoint:
    """The checkpoint ``path``, or a bare state dict that ``torch.save`` wrote.

    Raises UserError, in one line, for what is no checkpoint, holds no tensors or pickles code.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        classes = get_unsafe_globals_in_checkpoint(path)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: no checkpoint that torch.save wrote ({_reason(error)})") from None
    if refused := sorted(name for name in classes if not name.startswith(IGNORED)):
        raise UserError(
            f"{path}: pickles {refused[0]!r} ({len(refused)} in all): code, which is never run; "
            "save its state_dict alone, and convert that"
        )
    try:
        with safe_globals([(Ignored, name) for name in classes]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged or forged file leads to
        raise UserError(f"{path}: cannot be read as weights ({_reason(error)})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, no state_dict")
    tensors = content.get("state_dict", content)
    if not isinstance(tensors, dict) or not tensors:
        raise UserError(f"{path}: its state_dict holds nothing")
    for name, value in tensors.items():
        usual = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        if not usual or not isinstance(name, str):
            raise UserError(f"{path}: {name!r} is no tensor; give a checkpoint with a state_dict")
    hyper_parameters = content.get("hyper_parameters")
    return LightningCheckpoint(
        dict(tensors), hyper_parameters if isinstance(hyper_parameters, dict) else {}
    )


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
