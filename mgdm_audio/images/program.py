"""A network with its code and weights in one file, as ``torch.export.save`` writes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def load_program(path: str | Path) -> Callable[..., Tensor]:
    """The exported program in ``path`` (.pt2), as a differentiable function of tensors.

    It runs where its first argument lies, in the precision in which it was exported, and answers in
    that of its first argument. Raises ValueError, naming the file, for what is none.
    """
    remedy = "give what torch.export.save wrote, say network.pt2"
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; {remedy}")
    try:
        module: Any = torch.export.load(path).module()
    except Exception as error:  # of many kinds: zip, JSON, the schema, pickles that are refused
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path}: not an exported program ({reason}); {remedy}") from None
    module.requires_grad_(False)
    precision = next((p.dtype for p in module.parameters()), torch.float32)

    def call(*arguments: Tensor) -> Tensor:
        first = arguments[0]
        answer: Tensor = module.to(first.device)(*(a.to(precision) for a in arguments))
        return answer.to(first.dtype)

    return call
