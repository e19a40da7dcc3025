"""The layers of a ``TFUNet``, whose tensors are [batch, positions, frames, channels]."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Standard deviations at which levels are clamped, so high that loud levels stay distinct.
REACH = 30.0
LEVEL_FLOOR = 0.01  # added to normalised powers under the logarithm


def log_level(coefficient: Tensor, quadrature: Tensor) -> Tensor:
    """Returns half the log power of a complex coefficient, which is smoother than the MDCT's."""
    power = coefficient.clamp(-REACH, REACH) ** 2 + quadrature.clamp(-REACH, REACH) ** 2
    return 0.5 * (power / 2 + LEVEL_FLOOR).log()


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
        """Computes ``forward`` with fewer passes over memory; it may overwrite ``x``.

        For inference without autocast, with a contiguous ``x`` and one row of ``embedding`` for the
        whole batch (``alike``): its scale and shift are then the weight and bias of the layer norm,
        and its gate scales the rows of the last layer. These are computed in the type of
        ``embedding``, all else in that of ``x``. In float32 the result differs by rounding alone,
        by about 1e-7 of it.
        """
        shift, scale, gate = self.modulation(embedding)[0].chunk(3)
        h = F.layer_norm(x, (self.channels,), (1 + scale).to(x.dtype), shift.to(x.dtype))
        h = dense(convolved(h, self.local), self.expand, relu=True)
        gate = 1 + gate
        return added(x, h, self.project.weight * gate[:, None], self.project.bias * gate)


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
        h = dense(x, self.squeeze).permute(0, 2, 1, 3).reshape(batch, frames, -1)
        for layer in self.across:
            h = dense(h, layer) if isinstance(layer, nn.Linear) else layer(h)
        h = h.view(batch, frames, positions, self.rank).permute(0, 2, 1, 3)
        return x + dense(F.gelu(h), self.widen)


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
        norm = self.norm
        h = F.layer_norm(x, norm.normalized_shape, norm.weight.to(x), norm.bias.to(x), norm.eps)
        batch, positions, frames, _ = x.shape
        h = dense(h, self.query_key_value).view(batch * positions, frames, 3, self.heads, -1)
        query, key, value = h.permute(2, 0, 3, 1, 4)  # each [batch positions, heads, frames, width]
        h = attended(rotate(query), rotate(key), value)
        return x + dense(h.transpose(1, 2).reshape(x.shape), self.project)


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Returns softmax(query key^T / sqrt(width)) value, of [n, heads, frames, width] each."""
    if torch.is_grad_enabled() or not is_fast_bfloat16(query):
        return F.scaled_dot_product_attention(query, key, value)
    # One of the n after the other: its scores stay in the caches, which saves a third of the time.
    query, out = query * query.shape[-1] ** -0.5, torch.empty_like(query)
    for i, (q, k, v) in enumerate(zip(query, key, value, strict=True)):
        torch.bmm((q @ k.transpose(1, 2)).softmax(-1), v, out=out[i])
    return out


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


def convolved(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Applies a convolution to [batch, positions, frames, channels], in the type of ``x``."""
    weight, bias = layer.weight.to(x.dtype), cast(Tensor, layer.bias).to(x.dtype)
    x = x.permute(0, 3, 1, 2)
    padding = cast(tuple[int, int], layer.padding)
    x = F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)
    return x.permute(0, 2, 3, 1)


def dense(x: Tensor, layer: nn.Linear, relu: bool = False) -> Tensor:
    """Returns ``layer(x)``, or its relu; without gradients by ``product``."""
    if torch.is_grad_enabled():
        return F.relu(layer(x)) if relu else layer(x)
    return product(x, layer.weight, layer.bias, relu)


def product(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """Returns ``F.linear(x, weight, bias)``, or its relu, in the type of ``x``: for inference."""
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    if is_fast_bfloat16(x):
        # torch's own layer writes the bias first and adds the product to it, and relu and sum take
        # further passes over memory. oneDNN does all in one; torch.compile uses its operator, too.
        operators: Any = torch.ops.mkldnn
        packed, kind = operators._reorder_linear_weight(weight), "relu" if relu else "none"
        return cast(Tensor, operators._linear_pointwise(x, packed, bias, kind, [], ""))
    y = F.linear(x, weight, bias)
    return y.relu_() if relu else y


def added(onto: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns ``onto + product(x, weight, bias)``; it may overwrite ``onto``."""
    if is_fast_bfloat16(x):
        operators: Any = torch.ops.mkldnn
        packed = operators._reorder_linear_weight(weight.to(x.dtype))
        fused = operators._linear_pointwise.binary(x, onto, packed, bias.to(x.dtype), "add")
        return cast(Tensor, fused)
    if x.dtype != torch.float32:
        return onto.add_(product(x, weight, bias))  # else the sum would be rounded twice
    onto.view(-1, onto.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), weight.T)
    return onto.add_(bias)


@contextmanager
def without_autocast(x: Tensor) -> Iterator[torch.dtype]:
    """Turns off autocast on the device of ``x``; yields the type that it gave to products."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        with torch.autocast(kind, enabled=False):
            yield dtype
    else:
        yield x.dtype


def is_fast_bfloat16(x: Tensor) -> bool:
    """Whether ``x`` is in bfloat16 on a processor for which oneDNN has it (AVX-512)."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and _has_onednn()


@cache
def _has_onednn() -> bool:
    """Whether torch has the operators of oneDNN, and the processor its instructions."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    operators: Any = torch.ops.mkldnn
    return (
        torch.backends.mkldnn.is_available()
        and all(hasattr(operators, name) for name in names)
        and bool(operators._is_mkldnn_bf16_supported())
    )
