"""A small convolutional autoencoder for images: the codec of a latent prior.

It is trained to reconstruct its input from a latent with added noise, so that distances between
latents reflect differences between images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mgdm_audio.networks.unet_2d import Size, Widths
from mgdm_audio.ranges import Checked
from mgdm_audio.rng import randn_like

NOISE = 0.1  # standard deviation of the noise added to a latent in training
POWER = 0.01  # weight of (power of a latent - 1)^2


@dataclass(frozen=True)
class Autoencoder2dConfig(Checked):
    """The shape of an ``Autoencoder2d``. Raises ValueError for an impossible one."""

    channels: Size = 1  # of an image
    latent_channels: Size = 4  # of a latent
    widths: Widths = (32, 64)  # per level; each level halves the rows and columns

    @property
    def factor(self) -> int:
        """The number of rows (and columns) of an image per row (and column) of its latent."""
        return 2 ** len(self.widths)


class Autoencoder2d(nn.Module):
    """A convolutional ``Codec`` of images; see the module's docstring."""

    def __init__(self, config: Autoencoder2dConfig) -> None:
        super().__init__()
        self.config = config
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        before = config.channels
        for width in config.widths:
            down += [nn.Conv2d(before, width, 4, 2, 1), nn.GroupNorm(8, width), nn.SiLU()]
            down += [nn.Conv2d(width, width, 3, padding=1), nn.SiLU()]
            before = width
        self.encoder = nn.Sequential(*down, nn.Conv2d(before, config.latent_channels, 1))
        up += [nn.Conv2d(config.latent_channels, before, 1)]
        for width in reversed(config.widths):
            up += [nn.Conv2d(before, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            up += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1), nn.SiLU()]
            before = width
        self.decoder = nn.Sequential(*up, nn.Conv2d(before, config.channels, 3, padding=1))

    def encode(self, x: Tensor) -> Tensor:
        """Maps ``[batch, channels, H, W]`` to ``[batch, latent_channels, H/factor, W/factor]``.

        Raises ValueError unless ``factor`` divides H and W.
        """
        factor = self.config.factor
        if x.shape[-1] % factor or x.shape[-2] % factor:
            raise ValueError(f"size {tuple(x.shape[-2:])}: give multiples of {factor}")
        result: Tensor = self.encoder(x)
        return result

    def decode(self, z: Tensor) -> Tensor:
        """Maps a latent to an image ``[batch, channels, H, W]``."""
        result: Tensor = self.decoder(z)
        return result

    def loss(self, x_0: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the squared errors of images and of the latents' power from 1: ``[batch]``."""
        z = self.encode(x_0)
        error = self.decode(z + NOISE * randn_like(z, generator)) - x_0
        power = z.square().mean((1, 2, 3))
        return error.square().mean((1, 2, 3)) + POWER * (power - 1).square()
