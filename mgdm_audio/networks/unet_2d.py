"""A small U-Net for images: a denoiser for training and use on a CPU.

It is preconditioned as in EDM (arXiv 2206.00364, Table 1, see ``EDMDenoiser``), so that the
network's inputs and targets have unit variance at every noise level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgdm_audio.diffusion import EDMDenoiser
from mgdm_audio.ranges import Checked, Positive, filled, within

Size = Annotated[int, within("[1, inf)", "{names} {are} at least 1")]
_WIDTHS = "{name} = {value}: give multiples of 8"
Widths = Annotated[tuple[int, ...], filled(_WIDTHS), within("[8, inf)", _WIDTHS, step=8)]


@dataclass(frozen=True)
class UNet2dConfig(Checked):
    """The shape of a ``UNet2d``. Raises ValueError for an impossible one.

    The defaults have 1.3 million parameters, enough for digits and other small images.
    """

    channels: Size = 1  # of an image
    widths: Widths = (32, 64, 64)  # per level; each level has half the rows and columns
    blocks: Size = 2  # residual blocks per level, on each side
    patch: Size = 1  # edge in pixels of the squares that are one position of the first level
    attention: bool = True  # whether the bottom has attention over all positions
    embedding: Size = 128  # width of the embedding of the noise level
    sigma_data: Positive = 0.5  # standard deviation of the data


class Block(nn.Module):
    """A residual block of two 3 x 3 convolutions; the noise level modulates the norm between."""

    def __init__(self, width_in: int, width: int, embedding: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(8, width_in)
        self.enter = nn.Conv2d(width_in, width, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.norm = nn.GroupNorm(8, width)
        self.leave = nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Maps ``x: [batch, width_in, height, width]``, given ``embedding: [batch, embedding]``."""
        scale, shift = self.modulation(embedding)[..., None, None].chunk(2, 1)
        h = self.norm(self.enter(F.silu(self.norm_in(x)))) * (1 + scale) + shift
        result: Tensor = self.skip(x) + self.leave(F.silu(h))
        return result


class Attention(nn.Module):
    """Residual self-attention over all positions, with one head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.enter = nn.Conv2d(width, 3 * width, 1)
        self.leave = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.enter(self.norm(x)).flatten(2).mT.chunk(3, -1)
        h = F.scaled_dot_product_attention(query, key, value).mT.reshape(x.shape)
        result: Tensor = x + self.leave(h)
        return result


class UNet2d(nn.Module):
    """An EDM-preconditioned U-Net for images; pads sizes by edge replication where needed."""

    frequencies: Tensor

    def __init__(self, config: UNet2dConfig) -> None:
        super().__init__()
        self.config = config
        widths, e = config.widths, config.embedding
        self.register_buffer(
            "frequencies",
            2 * math.pi * torch.exp(torch.linspace(-1, 3, 16, device="cpu")),
            persistent=False,
        )
        self.embed = nn.Sequential(nn.Linear(32, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        inside = config.channels * config.patch**2
        self.enter = nn.Conv2d(inside, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        kept = [before]
        for width in widths:
            blocks = nn.ModuleList()
            for _ in range(config.blocks):
                blocks.append(Block(before, width, e))
                before = width
                kept.append(before)
            self.down.append(blocks)
        self.middle = nn.ModuleList([Block(before, before, e), Block(before, before, e)])
        self.attention = Attention(before) if config.attention else nn.Identity()
        for level in reversed(range(len(widths))):
            blocks = nn.ModuleList()
            for _ in range(config.blocks + (level == 0)):  # the last block gets ``enter``'s output
                blocks.append(Block(before + kept.pop(), widths[level], e))
                before = widths[level]
            self.up.append(blocks)
        self.norm = nn.GroupNorm(8, before)
        self.leave = nn.Conv2d(before, inside, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))
        self.denoiser = EDMDenoiser(self.trunk, config.sigma_data)

    def trunk(self, x: Tensor, noise: Tensor) -> Tensor:
        """Computes EDM's F of ``x: [batch, channels, height, width]``, ``noise`` log(sigma) / 4."""
        angle = noise[:, None] * self.frequencies
        embedding = self.embed(torch.cat([angle.sin(), angle.cos()], -1))
        (height, width), patch = x.shape[-2:], self.config.patch
        multiple = patch * 2 ** (len(self.down) - 1)
        h = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        h = self.enter(F.pixel_unshuffle(h, patch))
        kept = [h]
        for level, blocks in enumerate(self.down):
            if level:
                h = F.avg_pool2d(h, 2)
            for block in cast(nn.ModuleList, blocks):
                h = block(h, embedding)
                kept.append(h)
        h = self.middle[1](self.attention(self.middle[0](h, embedding)), embedding)
        for level, blocks in enumerate(self.up):
            if level:
                h = F.interpolate(h, scale_factor=2)
            for block in cast(nn.ModuleList, blocks):
                h = block(torch.cat([h, kept.pop()], 1), embedding)
        result: Tensor = F.pixel_shuffle(self.leave(F.silu(self.norm(h))), patch)
        return result[..., :height, :width]

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Returns ``E[x_0 | x_0 + sigma eps = x]``: ``[batch, channels, height, width]``."""
        return self.denoiser(x, sigma)

    def loss(
        self, x_0: Tensor, sigma: Tensor, noise: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the denoising error divided by c_out^2, and zeros, each ``[batch]``.

        ``x_0``, ``noise``: ``[batch, channels, height, width]``; ``sigma: [batch]``. The network
        has no conditioning input and reports no variance, so ``given`` is not used.
        """
        error = self(x_0 + sigma.view(-1, 1, 1, 1) * noise, sigma) - x_0
        weight = 1 / sigma**2 + 1 / self.config.sigma_data**2  # 1 / c_out^2
        return weight * error.square().mean((1, 2, 3)), torch.zeros_like(sigma)
