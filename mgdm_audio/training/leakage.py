"""Leakage between stems as a disturbance of training examples.

A guided sampler calls a denoiser on states that no noise explains: what one stem has too little of
another has too much of, and the sum is right. Trained on such states with the clean stems as the
target, a network takes leakage out that one trained on noise alone returns as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.ranges import Checked, within
from mgdm_audio.training.augmentation import equalisers

EQUALISER = 12.0  # dB, of the leak's random spectrum
KNOT = 0.5  # seconds between the knots of its random envelope

_SHARE = within("[0, 1]", "{name} = {value}: give a share from 0 to 1")


@dataclass(frozen=True)
class Leakage(Checked):
    """How much of one stem is moved to others, in a share of the training examples.

    The content of a stem, of the same example or of another, passes a random smooth equaliser and a
    random envelope; it is taken from that stem and added to one other or spread over all others.
    Its level is drawn relative to the noise, and bounded relative to the content.
    """

    share: Annotated[float, _SHARE] = 0.0  # of the examples
    least: float = 0.3  # rms of the leak over sigma: log-uniform from this
    most: float = 10.0  # to this
    gain: float = 12.0  # dB: the leak's rms is at most this much above the content's

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.least <= self.most:
            raise ValueError(f"least = {self.least}, most = {self.most}: give 0 < least <= most")

    def draw(
        self, x_0: Tensor, sigma: Tensor, sample_rate: int, generator: torch.Generator
    ) -> Tensor:
        """Leaks for ``x_0: [batch, sources >= 2, time]`` at ``sigma: [batch]``: they sum to zero.

        The result has the shape of ``x_0`` and is zero for the examples that have none. Drawn on
        the generator's device, computed on that of ``x_0``; ``sample_rate`` in Hz.
        """
        batch, sources, time = x_0.shape

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator)

        chosen = uniform(batch) < self.share
        source = torch.randint(sources, (batch,), generator=generator)
        # Of the next example in half of the cases: the content need not be the stem's own.
        example = (torch.arange(batch) + (uniform(batch) < 0.5)) % batch
        level = self.least * (self.most / self.least) ** uniform(batch)
        # To one other stem in half of the cases, else to all others by random shares.
        shares = uniform(batch, sources - 1) + 1e-3
        alone = F.one_hot(torch.randint(sources - 1, (batch,), generator=generator), sources - 1)
        shares = torch.where(uniform(batch, 1) < 0.5, alone.float(), shares)
        shares = shares / shares.sum(1, keepdim=True)
        frequencies = torch.fft.rfftfreq(time, 1 / sample_rate, device=x_0.device)
        curves = equalisers(batch, frequencies, EQUALISER, generator)
        knots = uniform(batch, 1, 2 + int(time / (KNOT * sample_rate))).to(x_0.device)

        content = x_0[example.to(x_0.device), source.to(x_0.device)]
        filtered = torch.fft.irfft(torch.fft.rfft(content) * curves, n=time)
        leak = filtered * F.interpolate(knots, time, mode="linear", align_corners=True)[:, 0]
        rms = leak.square().mean(1).sqrt().clamp_min(1e-12)
        loudest = 10 ** (self.gain / 20) * content.square().mean(1).sqrt()
        wanted = torch.minimum(level.to(x_0.device) * sigma, loudest)
        leak = leak * (wanted / rms * chosen.to(x_0.device))[:, None]
        # Columns: the stem that loses, then the others in order.
        moved = torch.cat([-torch.ones(batch, 1), shares], 1)
        order = (source[:, None] + torch.arange(sources)) % sources
        weights = torch.zeros(batch, sources).scatter(1, order, moved).to(x_0.device)
        return weights[..., None] * leak[:, None]
