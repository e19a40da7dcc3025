"""The layers of a ``TFUNet``: tensors are [batch, positions, frames, channels], channels last."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoiseEmbedding(nn.Module):
    """log sigma (and whether the mixture is given) -> [batch, embedding], by Fourier features."""

    frequencies: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer(
            "frequencies",
            2 * math.pi * 0.25 * torch.exp(torch.linspace(0, 4, 16)),
            persistent=False,
        )
        self.layers = nn.Sequential(
            nn.Linear(33, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, sigma: Tensor, given: Tensor) -> Tensor:
        angle = (sigma.log() / 4)[:, None] * self.frequencies
        return self.layers(torch.cat([angle.sin(), angle.cos(), given[:, None]], -1))


class Block(nn.Module):
    """Adaptive layer norm, a grouped 5 x 3 convolution, two pointwise layers, residual.

    The convolution is grouped, by 16 channels rather than depthwise: on a CPU in bfloat16 its
    backward pass is several times faster than a depthwise one, and it mixes channels besides.
    """

    def __init__(self, channels: int, embedding: int, dilation: int, group_width: int):
        super().__init__()
        self.channels = channels
        self.modulation = nn.Linear(embedding, 3 * channels)
        self.local = nn.Conv2d(
            channels,
            channels,
            (5, 3),
            padding=(2, dilation),
            dilation=(1, dilation),
            groups=channels // group_width,
        )
        self.expand = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(2 * channels, channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x: [batch, positions, frames, channels]: channels last serves both layers unchanged."""
        shift, scale, gate = self.modulation(embedding)[:, None, None].chunk(3, -1)
        h = F.layer_norm(x, (self.channels,)) * (1 + scale) + shift
        h = self.local(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + (1 + gate) * self.project(F.relu(self.expand(h)))

    def infer(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``forward`` with fewer passes over memory, written into ``x``, which is contiguous.

        For inference where ``embedding`` is the same for the whole batch (``alike``): its scale and
        shift are then the weight and bias of the layer norm, and its gate scales the rows of the
        last layer. Rounding alone differs: some 1e-7 of the result.
        """
        shift, scale, gate = self.modulation(embedding[:1])[0].chunk(3)
        h = F.layer_norm(x, (self.channels,), weight=1 + scale, bias=shift)
        h = self.local(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        h = self.expand(h).relu_().reshape(-1, 2 * self.channels)
        gate = 1 + gate
        x.view(-1, self.channels).addmm_(h, (self.project.weight * gate[:, None]).T)
        return x.add_(self.project.bias * gate)


def alike(embedding: Tensor) -> bool:
    """Whether ``Block.infer`` may stand for ``forward``: no gradient, full precision, one level.

    ``embedding: [batch, width]``. On a GPU several items are not compared, because the comparison
    would wait for the device.
    """
    kind = embedding.device.type
    if torch.is_grad_enabled() or torch.is_autocast_enabled(kind):
        return False
    return len(embedding) == 1 or (kind == "cpu" and bool((embedding == embedding[:1]).all()))


class FullBand(nn.Module):
    """A low-rank layer over all frequency positions of a frame, once at the bottom: harmonics."""

    def __init__(self, channels: int, positions: int, rank: int, hidden: int):
        super().__init__()
        self.rank = rank
        self.squeeze = nn.Linear(channels, rank)
        self.across = nn.Sequential(
            nn.Linear(positions * rank, hidden), nn.GELU(), nn.Linear(hidden, positions * rank)
        )
        self.widen = nn.Linear(rank, channels)
        nn.init.zeros_(self.widen.weight)
        nn.init.zeros_(self.widen.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, positions, frames, channels], same out."""
        batch, positions, frames, _ = x.shape
        h = self.squeeze(x).permute(0, 2, 1, 3).reshape(batch, frames, -1)
        h = self.across(h).view(batch, frames, positions, self.rank).permute(0, 2, 1, 3)
        return x + self.widen(F.gelu(h))


class TimeAttention(nn.Module):
    """Self-attention over the frames of each frequency position, residual: music repeats itself.

    Rotary positions (Su et al. 2021, arXiv 2104.09864) know distances alone, so that segments may
    be longer than those of training.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, positions, frames, channels], same out."""
        batch, positions, frames, channels = x.shape
        h = self.query_key_value(self.norm(x)).view(batch * positions, frames, 3, self.heads, -1)
        query, key, value = h.permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(rotate(query), rotate(key), value)
        h = h.transpose(1, 2).reshape(batch, positions, frames, channels)
        return x + self.project(h)


def rotate(x: Tensor) -> Tensor:
    """[..., frames, width]: pairs turned by frame times frequency, from 1 to 1/1000 radian."""
    frames, half = x.shape[-2], x.shape[-1] // 2
    rates = torch.logspace(0, -3, half, device=x.device)
    angle = torch.arange(frames, device=x.device)[:, None] * rates
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def merge(x: Tensor) -> Tensor:
    """[batch, 4 p, frames, c] -> [batch, p, frames, 4 c]: four positions become one."""
    batch, positions, frames, channels = x.shape
    x = x.view(batch, positions // 4, 4, frames, channels).permute(0, 1, 3, 2, 4)
    return x.reshape(batch, positions // 4, frames, 4 * channels)


def split(x: Tensor) -> Tensor:
    """The inverse of ``merge``."""
    batch, positions, frames, channels = x.shape
    x = x.view(batch, positions, frames, 4, channels // 4).permute(0, 1, 3, 2, 4)
    return x.reshape(batch, 4 * positions, frames, channels // 4)
