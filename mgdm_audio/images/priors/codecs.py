"""Autoencoders of diffusers as codecs: between a picture and the latent that is diffused."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class LatentCodec:
    """``AutoencoderKL`` or ``VQModel``: ``[batch, 3, H, W]`` <-> ``[batch, channels, H/f, W/f]``.

    Latents are in the units the network was trained in: those of the autoencoder, less its shift,
    times its scale. Of a variational encoder the mean is taken. A VQ decoder quantises what it is
    given; its gradient goes past that step unchanged (straight through).
    """

    def __init__(self, autoencoder: nn.Module) -> None:
        self.autoencoder: Any = autoencoder
        config: Any = autoencoder.config
        self.scale = float(config.get("scaling_factor") or 1.0)
        self.shift = float(config.get("shift_factor") or 0.0)

    def encode(self, x: Tensor) -> Tensor:
        coded = self.autoencoder.encode(x)
        z: Tensor = coded.latents if hasattr(coded, "latents") else coded.latent_dist.mean
        return (z - self.shift) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self.autoencoder.decode(z / self.scale + self.shift).sample
        return x
