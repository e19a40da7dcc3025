"""Loads a network with its code and weights from a file of ``torch.export.save``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def load_program(path: str | Path) -> Callable[..., Tensor]:
    """Returns the exported program in ``path`` (.pt2) as a differentiable function of tensors.

    It runs on the device of its first argument, in the precision of the export, and its result has
    the dtype of its first argument. Raises ValueError, naming the file, for any other file.
    """
    remedy = "give a file written by torch.export.save, such as network.pt2"
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; {remedy}")
    try:
        module: Any = torch.export.load(path).module()
    except Exception as error:  # of many types: zip, JSON, schema, refused pickles
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path}: not an exported program ({reason}); {remedy}") from None
    module.requires_grad_(False)
    precision = next((p.dtype for p in module.parameters()), torch.float32)

    def call(*arguments: Tensor) -> Tensor:
        first = arguments[0]
        result: Tensor = module.to(first.device)(*(a.to(precision) for a in arguments))
        return result.to(first.dtype)

    return call
