"""How loud music is, its pauses left out."""

import torch
from torch import Tensor


def active_level(samples: Tensor, sample_rate: int) -> Tensor:
    """Rms over the channels and the seconds within 40 dB of the loudest; [] , 0 for silence.

    samples: [channel, time]. Pauses would lower a plain rms and so raise the music around them.
    """
    return level_of(powers(samples, sample_rate))


def powers(samples: Tensor, sample_rate: int) -> Tensor:
    """Mean squares of [channel, time] in each second that it begins: [seconds]."""
    return torch.stack([part.square().mean() for part in samples.split(sample_rate, -1)])


def level_of(power: Tensor) -> Tensor:
    """``active_level`` from ``powers``."""
    return power[power >= 1e-4 * power.max()].mean().sqrt()
