"""A small 2-D U-Net on the MDCT grid: a multi-source denoiser for training and use on a CPU.

The network predicts, per source, MDCT coefficient and frame, the mean and the variance of
p(x_0 | x_0 + sigma eps [, mixture]). It is preconditioned per (source, bin): the spectrum of music
falls by 60 dB from the bass to the top octave, so that at one sigma some bins are almost clean and
others mostly noise, and one scalar c_skip (Karras et al. 2022, section 5) fits neither. With s_k
the prior's standard deviation of source k in a bin,

    v_k    = sigma^2 s_k^2 / (sigma^2 + s_k^2)        variance of x_0 given x_sigma, Gaussian prior
    mean_k = s_k^2 / (sigma^2 + s_k^2) x_k + sqrt(v_k) F_k

which is c_skip and c_out of EDM, bin by bin. F_k is an offset plus a mask on the whitened input
x_k / sqrt(sigma^2 + s_k^2), and the mask is at most sigma / s_k, so that the gain on x_k is at most
1, as is that of the posterior mean under every zero-mean scale mixture of Gaussians. Without this
bound, repeated calls by a sampler amplify components that cancel in the sum of the sources. When
the mixture y is given too, mean_k and v_k are replaced by the Gaussian conditional given both, with
w_k = v_k / sum_j v_j:

    mean_k + w_k (y - sum_j mean_j),        variance v_k (1 - w_k)

so that an untrained network is the static Wiener filter, a trained one corrects it, and the
sources always sum to the mixture.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgdm_audio.networks.mdct import MDCT
from mgdm_audio.networks.tf_layers import (
    Block,
    FullBand,
    NoiseEmbedding,
    TimeAttention,
    alike,
    all_equal,
    dense,
    log_level,
    merge,
    split,
    without_autocast,
)

LIMIT = 6.0  # standard deviations at which the linear inputs are clamped
MASK_REACH = 6.0  # those at which masked values are clamped, else an outlying x_t is amplified
SCALE_FLOOR = 1e-3  # smallest s_k: below it a sampler drives normalised inputs far out of range


@dataclass(frozen=True)
class TFUNetConfig:
    """The shape of a ``TFUNet``. Raises ValueError where its levels do not divide evenly."""

    sources: int = 4  # in a training run the number of its stems
    bins: int = 1024  # MDCT bins; a frame spans 2 * bins samples
    patch: int = 4  # adjacent bins that share a position of the grid
    channels: tuple[int, ...] = (48, 96, 192)  # per level; each level has 1/4 of the positions
    blocks: tuple[int, ...] = (2, 3, 6)  # per level and side; the last number: at the bottom
    embedding: int = 96  # width of the embedding of the noise level
    mixing: int = 32  # channels of the full-band mixing at the bottom
    mixing_hidden: int = 256  # width of the mixing's hidden layer
    mixings: int = 1  # the number of full-band mixings among the bottom's blocks
    group_width: int = 16  # channels in a group of the convolutions, see Block
    attention: int = 0  # heads of the attention over time that follows each mixing; 0: none
    bin_weight: float = 0.5  # weights of bins in the loss, from 1 (equal) to 0 (by their power)
    pivot: bool = False  # with the mixture, shift x so that its sources sum to the mixture

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.blocks) or self.blocks[-1] < 1:
            raise ValueError("channels and blocks: give one number per level, the last block >= 1")
        if self.group_width < 1 or any(c < 1 or c % self.group_width for c in self.channels):
            raise ValueError(
                f"group_width = {self.group_width}: must divide channels = {self.channels}"
            )
        if not 1 <= self.mixings <= self.blocks[-1]:
            raise ValueError(f"mixings = {self.mixings}: give 1 to {self.blocks[-1]}, see blocks")
        if self.attention < 0 or (self.attention and self.channels[-1] % (2 * self.attention)):
            raise ValueError(
                f"attention = {self.attention}: {self.channels[-1]} channels do not make so many "
                "heads of even width"
            )
        position = self.patch * 4 ** (len(self.channels) - 1)
        if self.patch < 1 or self.bins < 1 or self.bins % position:
            raise ValueError(f"bins = {self.bins}: give a multiple of {position}, see patch")


class TFUNet(nn.Module):
    """A U-Net on MDCT coefficients; ``scale``: [sources, bins], the prior's s_k (amplitude)."""

    heads = ("log_variance",)  # trained on the likelihood, all else on the denoising error
    scale: Tensor

    def __init__(self, config: TFUNetConfig, scale: Tensor | None = None):
        super().__init__()
        self.config = config
        k, n, p = config.sources, config.bins, config.patch
        scale = torch.full((k, n), 0.05) if scale is None else scale.float().clamp(SCALE_FLOOR)
        self.register_buffer("scale", scale)
        self.mdct = MDCT(n)
        self.embed = NoiseEmbedding(config.embedding)
        widths, counts = config.channels, config.blocks
        positions = [n // p // 4**level for level in range(len(widths))]
        self.enter = nn.Linear((2 * k + 4) * p, widths[0])
        self.place = nn.ParameterList(
            [nn.Parameter(torch.zeros(q, 1, c)) for q, c in zip(positions, widths, strict=True)]
        )

        def stack(level: int) -> nn.ModuleList:
            # With dilations 1, 2, 4, 8 in time a few blocks have seconds of context.
            return nn.ModuleList(
                Block(widths[level], config.embedding, 2 ** (i % 4), config.group_width)
                for i in range(counts[level])
            )

        last = len(widths) - 1
        self.down = nn.ModuleList(stack(level) for level in range(last))
        self.merge = nn.ModuleList(nn.Linear(4 * widths[i], widths[i + 1]) for i in range(last))
        self.bottom = stack(last)
        # The blocks of the bottom before a mixing: spread evenly, from the second if there is one.
        at_bottom, times = counts[last], config.mixings
        self.mixed = [min(1 + i * at_bottom // times, at_bottom - 1) for i in range(times)]

        def full_band() -> FullBand:
            return FullBand(widths[last], positions[last], config.mixing, config.mixing_hidden)

        self.full_band = full_band()
        self.full_bands = nn.ModuleList(full_band() for _ in self.mixed[1:])
        heads = config.attention
        self.attention = nn.ModuleList(
            TimeAttention(widths[last], heads) for _ in (self.mixed if heads else ())
        )
        self.split = nn.ModuleList(nn.Linear(widths[i + 1], 4 * widths[i]) for i in range(last))
        self.up = nn.ModuleList(stack(level) for level in range(last))
        self.leave = nn.Linear(widths[0], 3 * k * p)
        self.log_variance = nn.Sequential(nn.Linear(widths[0], 64), nn.SiLU(), nn.Linear(64, k * p))
        for layer in (self.leave, cast(nn.Linear, self.log_variance[-1])):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def measure(self, x_0: Tensor) -> None:
        """Sets ``scale`` to the rms of each (source, bin) of examples [n, sources, time]."""
        total = torch.zeros_like(self.scale)
        for x in x_0.split(8):
            total += self.mdct(x)[0].square().mean(2).sum(0)
        self.scale.copy_((total / len(x_0)).sqrt().clamp_min(SCALE_FLOOR))

    def trunk(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Maps [batch, positions, frames, features] to [batch, positions, frames, channels[0]].

        Where ``Block.infer`` applies, such tensors have the type that autocast gives to products.
        """
        if not alike(embedding):
            return self._trunk(features, embedding, Block.__call__)
        with without_autocast(features) as dtype:
            # The modulations stay in the type of the features, which their layers have.
            return self._trunk(features.to(dtype), embedding.to(features.dtype), Block.infer)

    def _trunk(self, features: Tensor, embedding: Tensor, run: Any) -> Tensor:
        place = [x.to(features.dtype) for x in self.place]
        h = dense(features, self.enter) + place[0]
        kept = []
        for level, blocks in enumerate(self.down):
            for block in cast(nn.ModuleList, blocks):
                h = run(block, h, embedding)
            kept.append(h)
            h = dense(merge(h), cast(nn.Linear, self.merge[level])) + place[level + 1]
        for i, block in enumerate(self.bottom):
            h = run(block, h, embedding)
            for n in (n for n, after in enumerate(self.mixed) if after == i):
                h = self.full_bands[n - 1](h) if n else self.full_band(h)
                h = self.attention[n](h) if self.attention else h
        for level in reversed(range(len(self.up))):
            h = kept.pop() + split(dense(h, cast(nn.Linear, self.split[level])))
            for block in cast(nn.ModuleList, self.up[level]):
                h = run(block, h, embedding)
        return F.layer_norm(h, (h.shape[-1],))

    def coefficients(
        self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns mean, log-variance and Gaussian-prior variance v_k of x_0's MDCT coefficients.

        x: [batch, sources, time], time a multiple of ``bins``; sigma: [batch];
        mixture: [batch, 1, time] or None; given: [batch], 1 (default) for items conditioned on it.
        Each result: [batch, sources, frames, bins] (v_k broadcast over frames as size 1).
        """
        config = self.config
        batch, p, k = x.shape[0], config.patch, config.sources
        if mixture is None:
            given = x.new_zeros(1).expand(batch)
        else:
            given = x.new_ones(1).expand(batch) if given is None else given.to(x.dtype)
            if config.pivot:  # the remaining noise sums to zero over the sources
                x = x + given.view(-1, 1, 1) * (mixture - x.sum(1, keepdim=True)) / k
        z, z_quadrature = self.mdct(x)
        frames = z.shape[2]
        noise = sigma.view(-1, 1, 1, 1) ** 2
        power = (self.scale**2)[:, None, :]
        gaussian = noise * power / (noise + power)
        whiten = (noise + power).rsqrt()
        normal = z * whiten
        mean = z * power * whiten**2
        variance = gaussian.expand(batch, -1, -1, -1)
        inputs = [normal.clamp(-LIMIT, LIMIT), log_level(normal, z_quadrature * whiten)]
        if mixture is None:
            share = torch.zeros_like(gaussian)
            innovation = x.new_zeros(batch, 1, frames, config.bins)
            inputs += [innovation, log_level(innovation, innovation)] * 2
        else:
            seen = given.view(-1, 1, 1, 1)
            y, y_quadrature = (seen * part for part in self.mdct(mixture))
            # The mixture's innovation given x_sigma, in units of its standard deviation.
            deviation = gaussian.sum(1, keepdim=True).sqrt()
            mean_quadrature = (z_quadrature * power * whiten**2).sum(1, keepdim=True)
            residual = seen * (y - mean.sum(1, keepdim=True))
            innovation = residual / deviation
            loudness = power.sum(0, keepdim=True).rsqrt()
            inputs += [
                (y * loudness).clamp(-LIMIT, LIMIT),
                log_level(y * loudness, y_quadrature * loudness),
                innovation.clamp(-LIMIT, LIMIT),
                log_level(innovation, seen * (y_quadrature - mean_quadrature) / deviation),
            ]
            share = seen * gaussian / gaussian.sum(1, keepdim=True)
            mean = mean + share * residual
            variance = gaussian * (1 - share)
        features = torch.cat(inputs, 1)
        features = features.view(batch, 2 * k + 4, frames, -1, p).permute(0, 3, 2, 1, 4)
        features = features.reshape(batch, -1, frames, (2 * k + 4) * p)
        h = self.trunk(features, self._embedding(sigma, given))
        deviations, log_ratio = self._corrections(h, sigma, normal, innovation)
        correction = variance.sqrt() * deviations
        # With the mixture given, the corrections are made to sum to zero over the sources.
        mean = mean + correction - share * correction.sum(1, keepdim=True)
        return mean, variance.log() + log_ratio, gaussian

    def _embedding(self, sigma: Tensor, given: Tensor) -> Tensor:
        """Returns [batch, width], or [1, width] for inference on items of one level and kind.

        Rows of equal items would differ by rounding, and cost the form for inference.
        """
        if not torch.is_grad_enabled() and all_equal(sigma, given):
            sigma, given = sigma[:1], given[:1]
        embedding: Tensor = self.embed(sigma, given)
        return embedding

    def _corrections(
        self, h: Tensor, sigma: Tensor, normal: Tensor, innovation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the corrections of the mean, in standard deviations, and of the log-variance."""
        k, (batch, _, frames, _) = self.config.sources, normal.shape

        def grid(out: Tensor, channels: int) -> Tensor:
            out = out.float().view(batch, -1, frames, channels, self.config.patch)
            return out.permute(0, 3, 2, 1, 4).reshape(batch, channels, frames, self.config.bins)

        # Masks multiply the inputs, because a network learns a gain far more easily than a sign.
        additive, on_source, on_mixture = grid(self.leave(h), 3 * k).chunk(3, 1)
        # The bound on the mask makes the total gain on z at most 1, see the module's docstring.
        on_source = torch.minimum(on_source, sigma.view(-1, 1, 1, 1) / self.scale[:, None])
        masked = on_source * normal.clamp(-MASK_REACH, MASK_REACH)
        masked = masked + on_mixture * innovation.clamp(-MASK_REACH, MASK_REACH)
        # The features are detached, so that the variance's loss does not affect the mean.
        return additive + masked, grid(self.log_variance(h.detach()), k).clamp(-8, 4)

    @property
    def hop(self) -> int:
        """The number of samples between frames."""
        return self.config.bins

    def analysis(self, x: Tensor) -> Tensor:
        """Returns MDCT coefficients [..., frames, bins] of a waveform [..., time >= 1]."""
        return self.mdct(F.pad(x, (0, -x.shape[-1] % self.config.bins)))[0]

    def synthesis(self, coefficients: Tensor, time: int) -> Tensor:
        """Inverts ``analysis`` for a waveform of ``time`` samples."""
        return self.mdct.inverse(coefficients)[..., :time]

    def band_variance(self, sigma: Tensor) -> Tensor:
        """Returns v_k(sigma) of the Gaussian prior: [batch or 1, sources, 1, bins]."""
        noise, power = sigma.to(self.scale).view(-1, 1, 1, 1) ** 2, self.scale[:, None] ** 2
        return noise * power / (noise + power)

    def forward(self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None) -> Tensor:
        """Returns E[x_0 | x_0 + sigma eps = x (, mixture)]: [batch, sources, time], time >= 1."""
        return self.posterior(x, sigma, mixture)[0]

    def posterior(
        self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns mean [batch, sources, time] and MDCT variance [batch, sources, frames, bins]."""
        padding = (0, -x.shape[-1] % self.config.bins)
        sigma = sigma.to(x).expand(x.shape[0])
        mixture = None if mixture is None else F.pad(mixture, padding)
        mean, log_variance, _ = self.coefficients(F.pad(x, padding), sigma, mixture)
        return self.synthesis(mean, x.shape[-1]), log_variance.exp()

    def loss(
        self, x_0: Tensor, sigma: Tensor, noise: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns denoising error and negative log-likelihood of the variance, each [batch].

        x_0, noise: [batch, sources, time], time a multiple of ``bins``; sigma, given: [batch].
        The squared error is weighted by 1 / c_out^2, with c_out^2 the geometric mean, weighted by
        ``bin_weight``, of that per bin and the broadband one: the first alone emphasises inaudible
        bins, the second alone the bass.
        """
        mixture = x_0.sum(1, keepdim=True)
        x = x_0 + sigma.view(-1, 1, 1) * noise
        mean, log_variance, gaussian = self.coefficients(x, sigma, mixture, given)
        error = (mean - self.mdct(x_0)[0]) ** 2
        overall = (self.scale**2).mean()
        broadband = (sigma**2 * overall / (sigma**2 + overall)).view(-1, 1, 1, 1)
        share = self.config.bin_weight
        denoising = error / (gaussian**share * broadband ** (1 - share))
        likelihood = 0.5 * (error.detach() * (-log_variance).exp() + log_variance - gaussian.log())
        return denoising.mean((1, 2, 3)), likelihood.mean((1, 2, 3))
