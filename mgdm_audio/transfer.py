"""Numbers made on the host, sent to where the state is."""

from __future__ import annotations

import torch
from torch import Tensor

NOT_AWAITED = {"cuda"}
"""Kinds of devices whose driver stages a host's memory before a copy returns, so that it may be
freed at once. Apple's does not, and hands over what is in that memory later (PyTorch issue 189690).
"""


def send(x: Tensor, device: torch.device | str) -> Tensor:
    """``x`` on ``device``; the host does not wait for what the device still has to compute.

    What is read on the device comes after the copy, on the same stream.
    """
    device = torch.device(device)
    return x.to(device, non_blocking=device.type in NOT_AWAITED)
