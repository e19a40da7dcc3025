"""Small networks and short sounds that the tests share."""

import math

import torch
from torch import Tensor

from mgdm_audio.networks.tf_unet import TFUNet, TFUNetConfig

STEMS = ("bass", "drums", "guitar", "piano")
TINY = TFUNetConfig(
    bins=64, channels=(16, 32), blocks=(1, 2), embedding=16, mixing=4, mixing_hidden=16
)
ATTENDING = TFUNetConfig(
    bins=512, channels=(16, 32), blocks=(1, 2), embedding=16, mixing=4, mixing_hidden=16,
    mixings=2, attention=2, group_width=8,
)  # fmt: skip
"""With every kind of layer that the bundled priors have."""
TINY_TOML = """
[model]
bins = 64
channels = [16, 32]
blocks = [1, 2]
embedding = 16
mixing = 4
mixing_hidden = 16
"""
"""The same as the section of a training configuration."""


def tiny_network(seed: int, trained: bool = True, config: TFUNetConfig = TINY) -> TFUNet:
    """A network with a scale that differs by source and bin.

    ``trained``: no layer is zero any more, as if it had been trained.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bins = torch.arange(config.bins) / config.bins
        slope = torch.linspace(1, 4, config.sources)[:, None]
        network = TFUNet(config, 0.05 * torch.exp(-slope * bins))
        if trained:
            for parameter in network.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval().requires_grad_(False)


def song(seed: int, channels: int, time: int, sample_rate: int) -> Tensor:
    """[channels, time]: decaying tones under noise, peak 0.5, differently in every channel."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(time) / sample_rate
    pitch = 60 * 2 ** (5 * torch.rand(channels, 6, 1, generator=generator))
    tones = torch.sin(2 * math.pi * pitch * t) * torch.exp(-3 * t * pitch / 500)
    noise = 0.3 * torch.randn(channels, time, generator=generator)
    x = tones.sum(1) + noise
    return 0.5 * x / x.abs().max()
