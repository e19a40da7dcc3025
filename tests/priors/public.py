"""Checkpoints of the public module at 1/32 of MSDM's width, in the form of its training's.

Without the data module's hyper-parameters, which are in those of written.py.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.networks.unet_1d import UNet1dConfig
from tests.networks.test_unet_1d import SMALL, public_model, randomise

SINGLE = replace(SMALL, sources=1)
TIME = 4 * 64  # samples; 64 is the network's length_multiple


def make(public: Any, config: UNet1dConfig = SMALL, seed: int = 0) -> Any:
    """The public AudioDiffusionModel with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = public_model(public, config).eval()
    randomise(model)
    return model.requires_grad_(False)


def hyper_parameters(public: Any, config: UNet1dConfig = SMALL) -> dict[str, Any]:
    """What Lightning's save_hyperparameters keeps of MSDM's configuration, an object included."""
    return {
        "learning_rate": 1e-4,
        "in_channels": config.sources,
        "channels": config.channels,
        "resnet_groups": config.groups,
        "attention_heads": config.heads,
        "attention_features": config.head_features,
        "use_skip_scale": True,
        "diffusion_sigma_distribution": public.LogNormalDistribution(mean=-3.0, std=1.0),
        "diffusion_sigma_data": 0.2,
        "diffusion_dynamic_threshold": 0.0,
    }


def owned(model: Any, owner: str = "model.") -> dict[str, Tensor]:
    """The state dict of a module that holds ``model``: every tensor twice, as one storage."""
    return {f"{owner}{key}": value for key, value in model.state_dict().items()}


def write(path: Path, tensors: Any, settings: dict[str, Any] | None) -> Path:
    content = {"epoch": 1, "pytorch-lightning_version": "1.7.7", "state_dict": tensors}
    torch.save(content if settings is None else content | {"hyper_parameters": settings}, path)
    return path


def noisy(sigma: float, sources: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return (0.2**2 + sigma**2) ** 0.5 * torch.randn(2, sources, TIME, generator=generator)
