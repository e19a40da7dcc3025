"""A prior over pictures, with what is needed to apply it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mgdm_audio import reading
from mgdm_audio.diffusion import EpsDenoiser, NoiseSchedule, Prior, SampleDenoiser, VDenoiser
from mgdm_audio.diffusion.denoiser import Denoiser, Network
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError

ADAPTERS: Mapping[str, Callable[[Network, Tensor], Denoiser]] = {
    "epsilon": EpsDenoiser,
    "v_prediction": VDenoiser,
    "sample": SampleDenoiser,
}
"""By what diffusers calls a network's ``prediction_type``."""

NetworkT = TypeVar("NetworkT", bound=nn.Module)

Shape = tuple[int, int, int]
"""``(channels, height, width)``."""


@dataclass(frozen=True)
class ImagePrior:
    """A prior for images ``[batch, *image_shape]`` in [-1, 1]; latent where it has a codec."""

    prior: Prior
    name: str
    image_shape: Shape  # of a picture, also where what is diffused is a latent
    sha256: Mapping[str, str]  # file of weights, relative to where it was opened -> its hash
    multiple: int = 1  # of what is diffused: what its sides must be, for the network to halve them
    revision: str | None = None  # the commit, where it is from the hub


def at_its_own_steps(network: Network, prediction: str, schedule: NoiseSchedule) -> Denoiser:
    """The denoiser of a network trained at steps ``n = 0..T-1`` of ``schedule``'s levels ``n + 1``.

    Level 0 of the table is clean and was put before the training's first step, so the network is
    called at the step whose noise the level has. The MGDM paper's code (arXiv 2502.03332) calls
    its pixel networks one step later. Raises ``ValueError`` for an unknown ``prediction``.
    """
    if prediction not in ADAPTERS:
        raise ValueError(f"prediction_type {prediction!r}; known: {', '.join(ADAPTERS)}")
    return ADAPTERS[prediction](network, schedule.noise_level[1:])


def require_size(name: str, size: int, multiple: int) -> None:
    """UserError unless a square picture of ``size`` pixels has a side that ``multiple`` divides."""
    if size < 1 or size % multiple:
        raise UserError(f"{name}: size {size}: give a multiple of {multiple} pixels")


def ready(network: NetworkT, device: torch.device | str) -> NetworkT:
    """The network for inference: on the device, without gradients of its weights."""
    return network.to(device).eval().requires_grad_(False)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError where there is none."""
    try:
        value = reading.read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; the prior is incomplete, fetch it again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: is no JSON object")
    return value


def hashes(folder: Path, files: list[Path]) -> dict[str, str]:
    """Relative name -> sha256, sorted by name."""
    return {str(file.relative_to(folder)): hash_file(file) for file in sorted(files)}
