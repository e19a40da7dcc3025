"""Reads the weights in a file of ``torch.save`` or safetensors, such as a Lightning checkpoint.

Lightning stores the hyper-parameters of the model and of the data module with the weights, and the
objects that were passed to them: in MSDM's training a ``LogNormalDistribution`` of
audio-diffusion-pytorch, its own data sets and numpy's arrays. These objects are left out.
"""

import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.priors import inert_pickle
from mgdm_audio.priors.inert_pickle import Inert

# The marks by which torch.load recognises a zip archive, and in it a program, which it would run.
ZIP, TORCHSCRIPT = b"PK\x03\x04", "constants.pkl"


@dataclass(frozen=True)
class LightningCheckpoint:
    """The tensors of ``state_dict`` and the hyper-parameters saved with them.

    Objects among the hyper-parameters are ``Inert`` and keep their class's name.
    """

    tensors: dict[str, Tensor]
    hyper_parameters: dict[str, Any]


def read_lightning(path: Path) -> LightningCheckpoint:
    """Reads a checkpoint or a bare state dict without importing or running pickled code.

    Tensors are mapped from the file, or read into memory if torch before 1.6 wrote it. Raises
    UserError, in one line, for a file without a state dict of tensors, such as a pickled module.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load(path)
    except UserError:
        raise
    except Exception as error:  # a damaged or forged file may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: is no checkpoint, or a damaged one ({reason}); "
            "fetch it again, or give a file that torch.save or safetensors wrote"
        ) from None
    tensors = content.get("state_dict", content) if isinstance(content, dict) else content
    if isinstance(tensors, Inert):
        raise UserError(
            f"{path}: holds a whole pickled {tensors.name!r}, code, which is never run; "
            "load it where its code is installed, save its state_dict() alone, and give that"
        )
    if not isinstance(tensors, dict):
        raise UserError(f"{path}: holds a {type(tensors).__name__}, no state_dict; give one")
    if not tensors:
        raise UserError(f"{path}: its state_dict holds nothing; give a trained checkpoint")
    for name, value in tensors.items():
        if isinstance(value, Inert):
            raise UserError(
                f"{path}: {name!r} is no tensor, but would come out of {value.name!r}, which is "
                "never called; save a state_dict of plain tensors alone, and give that"
            )
        usual = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        if not usual or not isinstance(name, str):
            raise UserError(f"{path}: {name!r} is no tensor; give a checkpoint with a state_dict")
    hyper_parameters = content.get("hyper_parameters")
    return LightningCheckpoint(
        dict(tensors), hyper_parameters if isinstance(hyper_parameters, dict) else {}
    )


def _load(path: Path) -> Any:
    """Loads a file of ``torch.save``, in the present format, a zip archive, or the earlier one."""
    if tarfile.is_tarfile(path):
        raise UserError(f"{path}: is an archive; unpack it, tar -xf, and give a checkpoint in it")
    with path.open("rb") as file:
        is_zip = file.read(len(ZIP)) == ZIP
    if is_zip and TORCHSCRIPT in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise UserError(
            f"{path}: is a TorchScript program, code, which is never run; "
            "save the state_dict() of its module alone, and give that"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about unknown classes in pickles before torch 1.6
        return torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=inert_pickle, mmap=is_zip
        )
