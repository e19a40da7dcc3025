"""The multi-source waveform U-Net of MSDM, which can load its public weights.

MSDM: Mariani et al., "Multi-Source Diffusion Models for Simultaneous Music Generation and
Separation", arXiv 2302.02257; the architecture is the 1-D U-Net of Moûsai (Schneider et al., arXiv
2301.11757). The defaults of ``UNet1dConfig`` are MSDM's published model, 405.5 M parameters.

    patches     16 adjacent samples of a source share one position, so the U-Net runs at 1/16 rate
    down, up    per stage: a strided convolution, residual blocks and, in deep stages, a transformer
    skips       every output of the encoder, times 1/sqrt(2), is concatenated in the decoder

This is the network F(x, c_noise) of Karras et al. 2022 (EDM), arXiv 2206.00364, without the
preconditioning, which the denoiser adds. MSDM has sigma_data = 0.2, c_noise = log(sigma) / 4 and a
denoiser clamped to [-1, 1].
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgdm_audio.ranges import Checked, within

SKIP_SCALE = 0.5**0.5
_EVEN = within("[2, inf)", "{name} must be even, got {value}", step=2)


@dataclass(frozen=True)
class UNet1dConfig(Checked):
    """The shape of a ``UNet1d``. Raises ValueError if stages disagree or a factor is odd.

    Stage i maps channels * multipliers[i] to channels * multipliers[i + 1] at 1/factors[i] of the
    rate; ``blocks`` and ``attentions`` (a transformer follows the blocks) are per stage.
    """

    sources: int = 4
    channels: int = 256
    patch: int = 16  # samples; divides channels
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 4, 4, 4)
    factors: Annotated[tuple[int, ...], _EVEN] = (4, 4, 4, 2, 2, 2)
    blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    attentions: tuple[bool, ...] = (False, False, False, True, True, True)
    groups: int = 8  # of every group norm except those at the waveform's rate
    heads: int = 8
    head_features: int = 128
    feed_forward: int = 2  # hidden width divided by outer width

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = (len(self.multipliers) - 1, len(self.factors), len(self.blocks))
        if set(stages) != {len(self.attentions)}:
            raise ValueError(
                f"multipliers (less one), factors, blocks and attentions describe {stages} and "
                f"{len(self.attentions)} stages: they must agree"
            )
        if self.channels % self.patch:
            raise ValueError(f"patch = {self.patch} must divide channels = {self.channels}")


def to_patches(x: Tensor, patch: int) -> Tensor:
    """Maps [batch, c, patch * length] to [batch, c * patch, length], channel-major."""
    batch, channels, time = x.shape
    x = x.reshape(batch, channels, time // patch, patch).transpose(2, 3)
    return x.reshape(batch, channels * patch, time // patch)


def from_patches(x: Tensor, patch: int) -> Tensor:
    """Inverts ``to_patches``."""
    batch, channels, length = x.shape
    x = x.reshape(batch, channels // patch, patch, length).transpose(2, 3)
    return x.reshape(batch, channels // patch, length * patch)


class NoiseEmbedding(nn.Module):
    """Embeds c_noise [batch] as [batch, features] by an MLP of it and learned Fourier features."""

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(channels // 2))
        self.layers = nn.Sequential(
            nn.Linear(1 + 2 * (channels // 2), features),
            nn.GELU(),
            nn.Linear(features, features),
            nn.GELU(),
            nn.Linear(features, features),
            nn.GELU(),
            nn.SiLU(),  # the first layer of every block's modulation, computed here once
        )

    def forward(self, t: Tensor) -> Tensor:
        t = t[:, None]
        angle = 2 * math.pi * (t * self.frequencies)
        return self.layers(torch.cat([t, angle.sin(), angle.cos()], -1))


class ResidualBlock(nn.Module):
    """Group norm, SiLU and convolution, twice; the noise level modulates the second norm."""

    def __init__(self, enter: int, leave: int, embedding: int, groups: int):
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, enter)
        self.conv_1 = nn.Conv1d(enter, leave, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * leave)
        self.norm_2 = nn.GroupNorm(groups, leave)
        self.conv_2 = nn.Conv1d(leave, leave, 3, padding=1)
        self.shortcut = nn.Identity() if enter == leave else nn.Conv1d(enter, leave, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Maps x: [batch, enter, length], given embedding: [batch, features], to ``leave``."""
        scale, shift = self.modulation(embedding)[..., None].chunk(2, 1)
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = self.conv_2(F.silu(self.norm_2(h) * (1 + scale) + shift))
        return h + self.shortcut(x)


class Attention(nn.Module):
    """Multi-head self-attention over positions with norms before and after and no residual."""

    def __init__(self, features: int, heads: int, head_features: int):
        super().__init__()
        inner = heads * head_features
        self.heads = heads
        self.norm_in = nn.LayerNorm(features, bias=False)
        self.to_q = nn.Linear(features, inner, bias=False)
        self.to_kv = nn.Linear(features, 2 * inner, bias=False)
        self.project = nn.Linear(inner, features, bias=False)
        self.norm_out = nn.LayerNorm(features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, length, features] to the same shape."""
        x = self.norm_in(x)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(x), *self.to_kv(x).chunk(2, -1))
        )
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.norm_out(self.project(h))


class Transformer(nn.Module):
    """Attention, then a feed-forward network with a norm inside, each with a residual."""

    def __init__(self, channels: int, config: UNet1dConfig):
        super().__init__()
        hidden = channels * config.feed_forward
        self.attention = Attention(channels, config.heads, config.head_features)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(channels, bias=False),
            nn.Linear(channels, hidden, bias=False),
            nn.GELU(),
            nn.LayerNorm(hidden, bias=False),
            nn.Linear(hidden, channels, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, channels, length] to the same shape."""
        h = x.transpose(1, 2)
        h = h + self.attention(h)
        h = h + self.feed_forward(h)
        return h.transpose(1, 2)


class Down(nn.Module):
    """An encoder stage: downsampling, then residual blocks and a transformer."""

    def __init__(self, config: UNet1dConfig, stage: int, embedding: int):
        super().__init__()
        enter, leave = (config.channels * m for m in config.multipliers[stage : stage + 2])
        factor = config.factors[stage]
        self.resample = nn.Conv1d(enter, leave, 2 * factor + 1, stride=factor, padding=factor)
        self.blocks = nn.ModuleList(
            ResidualBlock(leave, leave, embedding, config.groups)
            for _ in range(config.blocks[stage])
        )
        self.transformer = Transformer(leave, config) if config.attentions[stage] else None

    def forward(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Returns every block's output, then the transformer's; the last is the stage's output."""
        x = self.resample(x)
        outputs = []
        for block in self.blocks:
            x = block(x, embedding)
            outputs.append(x)
        if self.transformer is not None:
            outputs.append(self.transformer(x))
        return outputs


class Up(nn.Module):
    """A decoder stage: a block for each output of ``Down``, a transformer, then upsampling."""

    def __init__(self, config: UNet1dConfig, stage: int, embedding: int):
        super().__init__()
        leave, enter = (config.channels * m for m in config.multipliers[stage : stage + 2])
        factor = config.factors[stage]
        self.blocks = nn.ModuleList(
            ResidualBlock(2 * enter, enter, embedding, config.groups)
            for _ in range(config.blocks[stage] + config.attentions[stage])
        )
        self.transformer = Transformer(enter, config) if config.attentions[stage] else None
        self.resample = nn.ConvTranspose1d(
            enter, leave, 2 * factor, stride=factor, padding=factor // 2
        )

    def forward(self, x: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        """Returns the stage's output; removes its skips from the end of the list."""
        for block in self.blocks:
            x = block(torch.cat([x, SKIP_SCALE * skips.pop()], 1), embedding)
        if self.transformer is not None:
            x = self.transformer(x)
        return self.resample(x)


class Bottleneck(nn.Module):
    """Block, attention without a residual, block, at the lowest rate."""

    def __init__(self, channels: int, config: UNet1dConfig, embedding: int):
        super().__init__()
        self.before = ResidualBlock(channels, channels, embedding, config.groups)
        self.attention = Attention(channels, config.heads, config.head_features)
        self.after = ResidualBlock(channels, channels, embedding, config.groups)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.attention(self.before(x, embedding).transpose(1, 2)).transpose(1, 2)
        return self.after(x, embedding)


class UNet1d(nn.Module):
    """MSDM's waveform U-Net; time must be a multiple of ``length_multiple``, by default 8192."""

    def __init__(self, config: UNet1dConfig | None = None):
        super().__init__()
        self.config = config = config or UNet1dConfig()
        self.length_multiple = config.patch * math.prod(config.factors)
        width, sources, stages = config.channels, config.sources, len(config.factors)
        embedding = 4 * width
        # The waveform's rate has few channels: one group per source, at most ``patch``.
        groups = min(config.patch, sources)
        self.embed = NoiseEmbedding(width, embedding)
        self.enter = ResidualBlock(sources, width // config.patch, embedding, groups)
        self.down = nn.ModuleList(Down(config, stage, embedding) for stage in range(stages))
        self.bottleneck = Bottleneck(width * config.multipliers[-1], config, embedding)
        self.up = nn.ModuleList(Up(config, stage, embedding) for stage in reversed(range(stages)))
        self.leave = ResidualBlock(width // config.patch, sources, embedding, groups)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Maps x: [batch, sources, time] and t = c_noise: [batch] to [batch, sources, time].

        Raises ValueError for another number of sources than the config's, and if time is no
        multiple of ``length_multiple``: padding would affect the group norms, global in time.
        """
        if x.shape[1] != self.config.sources or x.shape[2] % self.length_multiple:
            raise ValueError(
                f"UNet1d takes {self.config.sources} sources and a multiple of "
                f"{self.length_multiple} samples, got {x.shape[1]} and {x.shape[2]}"
            )
        embedding = self.embed(t)
        entered = x = to_patches(self.enter(x, embedding), self.config.patch)
        skips: list[Tensor] = []
        for down in self.down:
            outputs = down(x, embedding)
            skips += outputs
            x = outputs[-1]
        x = self.bottleneck(x, embedding)
        for up in self.up:
            x = up(x, skips, embedding)
        return self.leave(from_patches(x + entered, self.config.patch), embedding)


# Patterns of names in the public state dict and their replacements here, applied in order.
RENAMES = (
    (r"^to_time\.0\.0\.weights$", "embed.frequencies"),
    (r"^to_time\.0\.1\.", "embed.layers.0."),
    (r"^to_mapping\.0\.", "embed.layers.2."),
    (r"^to_mapping\.2\.", "embed.layers.4."),
    (r"^to_in\.module_list\.0\.block\.", "enter."),
    (r"^to_out\.module_list\.0\.block\.", "leave."),
    (r"^(down|up)samples\.", r"\1."),
    (r"\.(down|up)sample\.", ".resample."),
    (r"\.pre_block\.", ".before."),
    (r"\.post_block\.", ".after."),
    (r"\.fn\.norm\.g$", ".norm_in.weight"),
    (r"\.fn\.attention\.to_out\.0\.", ".project."),
    (r"\.fn\.attention\.to_out\.1\.g$", ".norm_out.weight"),
    (r"\.fn\.", "."),
    (r"\.g$", ".weight"),
    (r"\.block([12])\.groupnorm\.", r".norm_\1."),
    (r"\.block([12])\.project\.", r".conv_\1."),
    (r"\.to_scale_shift\.to_scale_shift\.1\.", ".modulation."),
    (r"\.to_out\.", ".shortcut."),
)


def convert_public_weights(public: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts a state dict of audio-diffusion-pytorch 0.0.43 to one of ``UNet1d``.

    public: that of its UNet1d or AudioDiffusionModel, or the "state_dict" of an MSDM checkpoint.
    The latter two hold each of the 434 tensors twice, as ``unet.*`` and ``diffusion.net.*`` (868),
    of which the first is used. Values are unchanged; feed-forward convolutions of width 1 and their
    gains lose the axes of size 1, since they are linear layers here. Load it with ``strict=True``.
    """
    copies = {
        prefix: {key.split(prefix, 1)[1]: v for key, v in public.items() if prefix in key}
        for prefix in ("unet.", "diffusion.net.")
    }
    converted = {}
    for key, value in (copies["unet."] or copies["diffusion.net."] or public).items():
        name = key
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        if key.endswith(".g"):
            value = value.flatten()
        elif ".feed_forward." in key:
            value = value.flatten(1)
        converted[name] = value
    return converted
