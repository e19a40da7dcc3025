"""The layers of a ``TFUNet``, whose tensors are [batch, positions, frames, channels]."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoiseEmbedding(nn.Module):
    """Embeds log sigma (Fourier features) and whether the mixture is given: [batch, embedding]."""

    frequencies: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer(
            "frequencies",
            2 * math.pi * 0.25 * torch.exp(torch.linspace(0, 4, 16, device="cpu")),
            persistent=False,
        )
        self.layers = nn.Sequential(
            nn.Linear(33, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, sigma: Tensor, given: Tensor) -> Tensor:
        angle = (sigma.log() / 4)[:, None] * self.frequencies
        return self.layers(torch.cat([angle.sin(), angle.cos(), given[:, None]], -1))


class Block(nn.Module):
    """A residual block: adaptive layer norm, a grouped 5 x 3 convolution, two pointwise layers.

    The convolution has groups of 16 channels and is not depthwise: its backward pass on a CPU in
    bfloat16 is several times faster, and it mixes channels.
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
        """Maps x: [batch, positions, frames, channels] to the same shape."""
        shift, scale, gate = self.modulation(embedding)[:, None, None].chunk(3, -1)
        h = F.layer_norm(x, (self.channels,)) * (1 + scale) + shift
        h = self.local(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + (1 + gate) * self.project(F.relu(self.expand(h)))

    def infer(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Computes ``forward`` with fewer passes over memory, in place in a contiguous ``x``.

        For inference with one row of ``embedding`` for the whole batch (``alike``): its scale and
        shift are then the weight and bias of the layer norm, and its gate scales the rows of the
        last layer. In float32 the result differs by rounding alone, by about 1e-7 of it; under
        autocast ``x`` is in float32, and fewer values are rounded than by ``forward``.
        """
        shift, scale, gate = self.modulation(embedding)[0].to(x.dtype).chunk(3)
        h = F.layer_norm(x, (self.channels,), weight=1 + scale, bias=shift)
        h = self.local(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        h = dense(h, self.expand, relu=True)
        gate = 1 + gate
        weight, bias = self.project.weight * gate[:, None], self.project.bias * gate
        if h.dtype != x.dtype:
            return x.add_(product(h, weight, bias))
        x.view(-1, self.channels).addmm_(h.reshape(-1, 2 * self.channels), weight.T)
        return x.add_(bias)


def alike(embedding: Tensor) -> bool:
    """Returns whether ``Block.infer`` may replace ``forward``.

    It may without gradients and for one row of ``embedding: [1, width]``, which stands for the
    whole batch.
    """
    # In this order: an export to ONNX, with gradients, must not ask for the size of the batch.
    return not torch.is_grad_enabled() and len(embedding) == 1


def all_equal(*values: Tensor) -> bool:
    """Returns whether each of ``values: [batch]`` is known to hold one number.

    Numbers on a GPU are not compared, because the comparison would wait for the device; those that
    were expanded from one number are known to be equal.
    """
    return all(
        x.stride(0) == 0 or len(x) == 1 or (x.device.type == "cpu" and bool((x == x[0]).all()))
        for x in values
    )


class FullBand(nn.Module):
    """A residual low-rank layer across all frequency positions of a frame, for harmonics."""

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
        """Maps x: [batch, positions, frames, channels] to the same shape."""
        batch, positions, frames, _ = x.shape
        h = self.squeeze(x).permute(0, 2, 1, 3).reshape(batch, frames, -1)
        h = self.across(h).view(batch, frames, positions, self.rank).permute(0, 2, 1, 3)
        return x + self.widen(F.gelu(h))


class TimeAttention(nn.Module):
    """Residual self-attention over the frames of each frequency position, for repetitions in music.

    Rotary embeddings (Su et al. 2021, arXiv 2104.09864) encode only distances, so that segments may
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
        """Maps x: [batch, positions, frames, channels] to the same shape."""
        h = F.scaled_dot_product_attention(*self._heads(self.query_key_value(self.norm(x))))
        return x + self.project(h.transpose(1, 2).reshape(x.shape))

    def infer(self, x: Tensor) -> Tensor:
        """Computes ``forward``; in bfloat16 on a CPU each position alone, within its caches."""
        if not in_bfloat16(x):
            return self.forward(x)
        queries, keys, values = self._heads(dense(self.norm(x), self.query_key_value))
        h = torch.empty_like(values.transpose(1, 2))
        for i, (query, key, value) in enumerate(zip(queries, keys, values, strict=True)):
            scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
            h[i] = (scores.softmax(-1) @ value).transpose(0, 1)
        return x + dense(h.reshape(x.shape), self.project)

    def _heads(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns query and key, turned, and value, [batch positions, heads, frames, width]."""
        batch, positions, frames, _ = h.shape
        h = h.view(batch * positions, frames, 3, self.heads, -1)
        query, key, value = h.permute(2, 0, 3, 1, 4)
        return rotate(query), rotate(key), value


def rotate(x: Tensor) -> Tensor:
    """Rotates pairs of [..., frames, width] by frame times rate, 1 to 1/1000 radian per frame."""
    frames, half = x.shape[-2], x.shape[-1] // 2
    rates = torch.logspace(0, -3, half, device=x.device)
    angle = torch.arange(frames, device=x.device)[:, None] * rates
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(a * sin, b, cos)], -1)


def merge(x: Tensor) -> Tensor:
    """Merges four positions into one: [batch, 4 p, frames, c] -> [batch, p, frames, 4 c]."""
    batch, positions, frames, channels = x.shape
    x = x.view(batch, positions // 4, 4, frames, channels).permute(0, 1, 3, 2, 4)
    return x.reshape(batch, positions // 4, frames, 4 * channels)


def split(x: Tensor) -> Tensor:
    """Inverts ``merge``."""
    batch, positions, frames, channels = x.shape
    x = x.view(batch, positions, frames, 4, channels // 4).permute(0, 1, 3, 2, 4)
    return x.reshape(batch, 4 * positions, frames, channels // 4)


def dense(x: Tensor, layer: nn.Linear, relu: bool = False) -> Tensor:
    """Returns ``layer(x)``, and its relu: see ``product``."""
    return product(x, layer.weight, layer.bias, relu)


def product(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """Returns ``F.linear(x, weight, bias)``, and its relu, without gradients.

    torch's own ``addmm`` in bfloat16 writes the bias first and adds the product to it, and the relu
    takes a third pass. oneDNN does all in one; torch has its primitive as an operator for compiled
    code. It makes a call of the bundled network 5 % faster.
    """
    if in_bfloat16(x) and _has_onednn():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16())
        kind = "relu" if relu else "none"
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.bfloat16(), packed, bias.bfloat16(), kind, [], ""
        )
        return y
    y = F.linear(x, weight, bias)
    return y.relu_() if relu else y


def in_bfloat16(x: Tensor) -> bool:
    """Whether matrix products of ``x`` are in bfloat16 on a CPU, by its type or by autocast."""
    if x.device.type != "cpu":
        return False
    autocast = torch.is_autocast_enabled("cpu")
    return (torch.get_autocast_dtype("cpu") if autocast else x.dtype) == torch.bfloat16


@cache
def _has_onednn() -> bool:
    """Whether torch has the operators of oneDNN, and the processor its instructions."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    operators = torch.ops.mkldnn
    return (
        torch.backends.mkldnn.is_available()
        and all(hasattr(operators, name) for name in names)
        and bool(operators._is_mkldnn_bf16_supported())
    )
