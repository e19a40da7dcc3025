"""The uncertainty of stems over time and frequency, and the contents of uncertainty.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR_DB = -120  # the smallest value of std_db


def confidence_db(
    power: Mapping[str, float], spread: Spread, seconds: float
) -> dict[str, float | None]:
    """Returns stem -> 10 log10(its power / that of its ``spread``), at most 300; None if silent.

    For a posterior mean it is the expected SI-SDR in dB: see ``Separation.confidence_db``.

    ``power``: mean square per stem; ``seconds``: the track's length, which may end in a window.
    """
    result: dict[str, float | None] = {}
    windows = seconds / spread.hop
    for name, std in spread.std.items():
        weights = (windows - torch.arange(std.shape[1], dtype=torch.float64)).clamp(0, 1)
        square = std.double().square().sum(-1).mean(0)
        variance = float((square * weights).sum() / weights.sum())
        ratio = power[name] / max(variance, 1e-30 * power[name]) if power[name] > 0 else None
        result[name] = None if ratio is None else 10 * math.log10(ratio)
    return result


def uncertainty_record(
    draws: int,
    spread: Spread | None,
    confidence: Mapping[str, float | None] | None,
    gain: float,
) -> dict[str, Any]:
    """Returns ``confidence`` and ``spread`` as JSON values.

    The rms over the channels of ``spread`` is taken and scaled by ``gain``. ``std``: stem ->
    [window]; ``std_db``: stem -> [window][band], in whole decibels relative to full scale, at least
    ``FLOOR_DB``; ``bands_hz`` are the edges of the bands.
    """
    record: dict[str, Any] = {
        "draws": draws,
        "hop_seconds": HOP if spread is None else spread.hop,
        "confidence_db": None,
        "std": None,
        "bands_hz": None,
        "std_db": None,
    }
    if spread is not None and confidence is not None:
        record["confidence_db"] = {
            name: None if value is None else round(value, 2) for name, value in confidence.items()
        }
        joined = {name: gain * _rms(x.double()) for name, x in spread.std.items()}
        # Three digits and whole decibels are more than a few draws can determine.
        record["std"] = {
            name: [float(f"{v:.3g}") for v in x.square().sum(-1).sqrt().tolist()]
            for name, x in joined.items()
        }
        record["bands_hz"] = [round(edge, 1) for edge in spread.edges]
        record["std_db"] = {
            name: (20 * x.clamp(min=1e-30).log10()).clamp(min=FLOOR_DB).round().int().tolist()
            for name, x in joined.items()
        }
    return record


def _rms(std: Tensor) -> Tensor:
    """Returns the rms over channels: [channel, window, band] -> [window, band]."""
    return std.square().mean(0).sqrt()


HOP = 0.1  # seconds, the length of a window
WINDOWS = 36_000  # the most windows, those of an hour: a longer track has longer windows
BANDS = 32  # of equal width in mel (O'Shaughnessy 1987), from 0 Hz to half the rate


@dataclass(frozen=True)
class Spread:
    """A ``Spread`` holds posterior standard deviations of stems over time and frequency.

    The variance is that over draws (N - 1 in the denominator). If a draw is a conditional mean, as
    with the preset "default", its residual variance is added (``samplers.Step``): by the law of
    total variance the sum is the posterior's, if the network's reported variance is correct. Where
    two channels are separated by draws of their mean (``stereo``), the variance over draws is that
    of the mean in both channels, too small for a stem at one side; the residual variance is that of
    each channel's draws, before the pans correct their errors, and hence too large.

    A value is the rms in one band over one of the consecutive windows of ``hop`` seconds; the first
    starts at 0, the last may be shorter. The squares of all bands sum to that of the waveform.
    """

    std: dict[str, Tensor]  # stem -> [channel, window, band], in the stems' unit
    hop: float  # seconds
    edges: tuple[float, ...]  # of the bands in Hz, one more than there are bands

    @property
    def over_time(self) -> dict[str, Tensor]:
        """The standard deviations of the waveforms: stem -> [channel, window]."""
        return {name: x.double().square().sum(-1).sqrt().float() for name, x in self.std.items()}


class SpreadMap:
    """Sums the energies of a track's deviations over draws: [batch, sources, window, band]."""

    def __init__(self, batch: int, sources: int, time: int, sample_rate: int) -> None:
        self.time, self.rate = time, sample_rate
        self.length = max(round(HOP * sample_rate), -(-time // WINDOWS))
        self.hop = self.length / sample_rate
        self.edges = band_edges(sample_rate)
        self.energy = torch.zeros(batch, sources, -(-time // self.length), BANDS)

    def add(self, deviation: Tensor, start: int, item: int, weight: float) -> None:
        """Adds a deviation [sources, any] of batch ``item`` from sample ``start`` of the track."""
        first = start // self.length
        power = self._power(F.pad(deviation, (start % self.length, 0)))
        self.energy = self.energy.to(power.device)  # where it stays: no draw waits for a copy
        self.energy[item, :, first : first + power.shape[1]] += weight * power

    def _power(self, x: Tensor) -> Tensor:
        return band_power(x, self.length, self.edges, self.rate)

    def std(self) -> Tensor:
        """Returns the standard deviations: [batch, sources, window, band]."""
        rest = torch.arange(self.energy.shape[2], 0, -1) * self.length
        samples = (rest - (rest[0] - self.time)).clamp(max=self.length)
        return (self.energy.cpu() / samples[:, None]).clamp_min(0).sqrt()


def band_edges(sample_rate: int) -> tuple[float, ...]:
    """Returns the edges of the bands in Hz."""
    top = 2595 * torch.tensor(1 + sample_rate / 1400, dtype=torch.float64).log10()
    mel = torch.linspace(0, float(top), BANDS + 1, dtype=torch.float64)
    return tuple((700 * (10 ** (mel / 2595) - 1)).tolist())


def band_power(x: Tensor, length: int, edges: Sequence[float], sample_rate: int) -> Tensor:
    """Returns energies of [..., time] in windows of ``length`` samples: [..., window, band].

    The windows are rectangular and do not overlap: if ``edges``, in Hz, reach from 0 to half the
    rate, the sum over bands is the sum of squares (Parseval).
    """
    frames = F.pad(x, (0, -x.shape[-1] % length)).unflatten(-1, (-1, length))
    bins = torch.fft.rfft(frames)
    power = torch.addcmul(bins.real.square(), bins.imag, bins.imag) / length
    power[..., 1 : (length + 1) // 2] *= 2  # their mirror images above half the rate
    frequencies = torch.arange(power.shape[-1], dtype=torch.float64) * sample_rate / length
    band = torch.bucketize(frequencies, torch.tensor(edges[1:-1], dtype=torch.float64), right=True)
    inside = frequencies <= edges[-1] * (1 + 1e-9)
    return power @ (inside[:, None] * F.one_hot(band, len(edges) - 1)).to(power)
