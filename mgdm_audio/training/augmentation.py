"""What is done to segments in training: gain, polarity, equaliser, speed, and leakage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.audio.resampling import resample
from mgdm_audio.ranges import Checked, not_negative, within

NORMAL = 64  # speeds are integers over this: steps of 27 cents at most, short polyphase filters
_MARGIN = 5 * NORMAL  # samples on either side that the filter's ends may spoil

_SHARE = within("[0, 1]")
_DECIBELS = not_negative()
_PITCH = within("[0, 12]", "{name} = {value}: give 0 to 12 semitones")
_REST = within("[0, 1)", "{name} = {value}: give a share from 0 to below 1")
_ACTIVE = within("[0, inf)", "{name} = {value}: give a number of stems, 0 for any")


@dataclass(frozen=True)
class Augmentation(Checked):
    """What is done to segments in training. Gains and equaliser bands in dB."""

    # Share of the examples whose stems come from different songs.
    remix: Annotated[float, _SHARE] = 0.5
    gain: Annotated[float, _DECIBELS] = 4.0  # each stem, uniform in +- gain
    polarity: bool = True  # each stem's sign, at random
    # Share of the stems that pass a random smooth equaliser.
    equalise: Annotated[float, _SHARE] = 0.5
    equalise_gain: Annotated[float, _DECIBELS] = 6.0  # its bands, uniform in +- this
    loudness: Annotated[float, _DECIBELS] = 3.0  # the whole example, uniform in +- this
    # Semitones: each song's speed, and pitch and tempo with it, within +- this.
    pitch: Annotated[float, _PITCH] = 0.0
    rest: Annotated[float, _REST] = 0.0  # share of the stems silenced, never all of an example
    active: Annotated[int, _ACTIVE] = 0  # examples in which fewer stems sound are drawn again


UNCHANGED = Augmentation(remix=0.0, gain=0.0, polarity=False, equalise=0.0, loudness=0.0)
"""Segments as they are in the files, each of one song."""


def equalisers(count: int, frequencies: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    """Random smooth curves over log-frequency: a tilt and two bands. Linear gain, [count, bins]."""
    draw = torch.rand(count, 6, generator=generator).to(frequencies).T[..., None]
    octaves = (frequencies.clamp_min(20.0) / 20.0).log2()
    top = octaves[-1]
    decibels = gain * (2 * draw[0] - 1) * (octaves / top - 0.5)
    for centre, width, height in ((draw[1], draw[2], draw[3]), (draw[4], draw[2], draw[5])):
        distance = (octaves - centre * top) / (0.5 + 1.5 * width)
        decibels = decibels + gain * (2 * height - 1) * torch.exp(-0.5 * distance**2)
    return 10 ** (decibels / 20)


def draw_speed(semitones: float, generator: torch.Generator) -> int:
    """A speed in units of 1 / ``NORMAL``, uniform within +- ``semitones``; 0 draws nothing."""
    if not semitones:
        return NORMAL
    low, high = (NORMAL * 2 ** (sign * semitones / 12) for sign in (-1, 1))
    return int(torch.randint(math.ceil(low), math.floor(high) + 1, (), generator=generator))


def span(length: int, speed: int) -> int:
    """Samples to read for ``length`` samples at ``speed``."""
    if speed == NORMAL:
        return length
    return math.ceil(length * speed / NORMAL) + 2 * _MARGIN // NORMAL * speed


def at_speed(x: Tensor, speed: int, length: int) -> Tensor:
    """[..., span(length, speed)] -> [..., length], played ``speed / NORMAL`` times as fast.

    A tone's frequency and its tempo are multiplied by that, as on a tape; what would pass the
    Nyquist frequency is filtered out.
    """
    if speed == NORMAL:
        return x
    return resample(x, speed, NORMAL)[..., _MARGIN : _MARGIN + length]


def augmented(
    x: Tensor, augment: Augmentation, sample_rate: int, generator: torch.Generator
) -> Tensor:
    """Gain, polarity, loudness and equaliser, per example and stem. x: [batch, sources, time].

    Drawn on the generator's device, done on that of ``x``.
    """
    batch, sources, time = x.shape

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    decibels = augment.gain * uniform(batch, sources, 1) + augment.loudness * uniform(batch, 1, 1)
    gain = 10 ** (decibels / 20)
    if augment.polarity:
        gain = gain * uniform(batch, sources, 1).sign()
    if augment.rest > 0:
        rests = torch.rand(batch, sources, 1, generator=generator) < augment.rest
        gain = gain * ~(rests & ~rests.all(1, keepdim=True))
    chosen = torch.zeros(batch, sources, dtype=torch.bool)
    if augment.equalise > 0:
        chosen = torch.rand(batch, sources, generator=generator) < augment.equalise
    if chosen.any():  # on the generator's device: nothing is waited for
        frequencies = torch.fft.rfftfreq(time, 1 / sample_rate, device=x.device)
        curves = equalisers(int(chosen.sum()), frequencies, augment.equalise_gain, generator)
        # By number: a device would be waited for to count a mask.
        at = chosen.flatten().nonzero()[:, 0].to(x.device)
        x = x.reshape(-1, time)
        filtered = torch.fft.irfft(torch.fft.rfft(x[at]) * curves, n=time)
        x = x.index_copy(0, at, filtered).view(batch, sources, time)
    return x * gain.to(x.device)


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
