"""Small networks for pictures that the tests share."""

from typing import Any

import torch
from torch import nn

from mgdm_audio.networks.autoencoder_2d import Autoencoder2d, Autoencoder2dConfig
from mgdm_audio.networks.unet_2d import UNet2d, UNet2dConfig


def tiny_unet(channels: int, **options: Any) -> UNet2d:
    """A random network of some ten thousand parameters, no layer of it zero."""
    settings: dict[str, Any] = {"widths": (8, 16), "blocks": 1, "embedding": 16} | options
    return _random(lambda: UNet2d(UNet2dConfig(channels, **settings)))


def tiny_autoencoder(channels: int = 1, latent_channels: int = 2) -> Autoencoder2d:
    """A random autoencoder that halves rows and columns."""
    return _random(lambda: Autoencoder2d(Autoencoder2dConfig(channels, latent_channels, (8,))))


def _random(build: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = build()
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return network.eval().requires_grad_(False)
