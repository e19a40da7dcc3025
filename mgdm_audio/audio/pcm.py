"""The integer grid of PCM files: rounding stems so that their sum stays exact, and headroom."""

import numpy as np
import torch
from torch import Tensor

SUBTYPES = ("PCM_16", "PCM_24", "FLOAT")
_BITS = {"PCM_16": 16, "PCM_24": 24}


def full_scale(subtype: str) -> int:
    """Steps of the grid from 0 to 1.0: 2^15 or 2^23."""
    return 1 << (_BITS[subtype] - 1)


def to_integers(samples: Tensor, subtype: str) -> Tensor:
    """The nearest grid points, clipped to the format's range, as int32 steps."""
    full = full_scale(subtype)
    # A float times a power of two is exact, and so are the steps, of which there are 2^24 at most.
    return (samples * full).round_().clamp_(-full, full - 1).int()


def quantise_together(stems: Tensor, subtype: str) -> Tensor:
    """Round stems [stem, channel, time] to the grid; their sum is the rounded mixture, exactly.

    The sums S_j = round(x_1 + ... + x_j) are rounded and stem j is S_j - S_{j-1}: the differences
    telescope to S_k, the rounded sum of all, and each is within one step of x_j because either S
    is within half a step of its sum. (Rounding each stem alone leaves up to k/2 steps in the sum.)
    FLOAT is returned as it came. Raises ValueError where a result does not fit the format: apply
    ``common_gain`` first.
    """
    if subtype == "FLOAT":
        return stems
    full = full_scale(subtype)
    rounded = torch.empty_like(stems, dtype=torch.float32)
    total = torch.zeros(stems.shape[1:], dtype=torch.float64, device=stems.device)
    previous = torch.zeros_like(total)
    for stem, out in zip(stems, rounded, strict=True):
        total += stem.double() * full
        current = total.round()
        out.copy_((current - previous) / full)  # at most 2^24 steps of 2^-23: exact in float32
        previous = current
    for steps in (rounded, (previous / full)[None]):
        if steps.numel() and not -1 <= steps.min() <= steps.max() <= (full - 1) / full:
            raise ValueError(f"stems or their sum leave {subtype}'s range; apply common_gain first")
    return rounded


def common_gain(stems: Tensor, mixture: Tensor, subtype: str = "PCM_16") -> float:
    """One gain <= 1 for all stems [stem, channel, time] and their sum, so that nothing clips.

    1.0 where ``quantise_together`` already fits, which is so for a mixture that peaks at full
    scale. ``mixture``: [channel, time], written beside the stems.
    """
    extremes = Extremes()
    extremes.add(stems, mixture)
    return extremes.gain(subtype)


class Extremes:
    """The least and greatest samples of stems, their sum and their mixture, met block by block."""

    def __init__(self) -> None:
        self._low, self._high = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]

    def add(self, stems: Tensor, mixture: Tensor) -> None:
        """stems: [stem, channel, time], mixture: [channel, time]."""
        if not stems.numel():
            return
        total = torch.zeros(stems.shape[1:], dtype=torch.float64, device=stems.device)
        for stem in stems:
            total += stem
        for i, x in enumerate((stems, total, mixture)):
            self._low[i] = min(self._low[i], x.min().item())
            self._high[i] = max(self._high[i], x.max().item())

    @property
    def peak(self) -> float:
        """The greatest magnitude."""
        return max(*self._high, *(-x for x in self._low))

    def gain(self, subtype: str) -> float:
        """See ``common_gain``."""
        if subtype == "FLOAT":
            return 1.0
        full = full_scale(subtype)
        # The sum is rounded by up to half a step, a stem by up to a whole one.
        room = ((-full + 1, full - 1), (-full - 0.5, full - 0.5), (-full - 0.5, full - 0.5))
        ranges = zip(self._low, self._high, room, strict=True)
        if all(low < x * full and y * full < high for x, y, (low, high) in ranges):
            return 1.0
        # Four more steps of 24 bits: float32 stems times a gain are rounded, k of them by k/4.
        return min(1.0, (full - 2 - 4 * full / 2**23) / full / self.peak)


def storable(samples: Tensor, subtype: str) -> np.ndarray:
    """[time, channel] as libsndfile stores it unchanged: its own scaling is off by one step."""
    if subtype == "FLOAT":
        return samples.float().T.numpy()
    steps = to_integers(samples, subtype).T.numpy()
    if subtype == "PCM_16":
        return steps.astype(np.int16)
    return steps << 8  # PCM_24 is the upper three bytes
