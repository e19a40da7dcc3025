"""How uncertain stems are over time and frequency, and the numbers of uncertainty.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR_DB = -120  # of std_db


def confidence_db(
    power: Mapping[str, float], spread: Spread, seconds: float
) -> dict[str, float | None]:
    """Name -> 10 log10(power of the stem / that of its ``spread``), at most 300; None if silent.

    Of a posterior mean it is the SI-SDR that the posterior expects: see ``Separation``.

    ``power``: mean square; ``seconds``: of the track, of whose windows the last may be a part.
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
    """Both of them for JSON, the channels of ``spread`` joined to one rms and lowered by ``gain``.

    ``std``: stem -> [window]; ``std_db``: stem -> [window][band], of the bands that ``bands_hz``
    bounds, whole decibels relative to full scale, at least ``FLOOR_DB``.
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
        # Three digits and whole decibels: more than a few draws establish.
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
    """[channel, window, band] -> [window, band]"""
    return std.square().mean(0).sqrt()


HOP = 0.1  # seconds, the length of a window
WINDOWS = 36_000  # at most, those of an hour: of a longer track they are longer
BANDS = 32  # of equal width in mel (O'Shaughnessy 1987), from 0 Hz to half the rate


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the posterior, in the stems' unit: how uncertain the stems are.

    The variance is that over draws (N - 1 in the denominator). Where a draw is a conditional mean,
    as those of the preset "default" are, its residual variance is added (``samplers.Step``): by the
    law of total variance the sum is the posterior's, as far as the network's report is right.

    ``std``: stem -> [channel, window, band]: the rms over consecutive windows of ``hop`` seconds,
    the first at 0, the last one cut short, of what lies in a band of frequencies; over bands the
    squares sum to those of the waveform. ``edges``: of the bands in Hz, one more than there are.
    """

    std: dict[str, Tensor]
    hop: float  # seconds
    edges: tuple[float, ...]

    @property
    def over_time(self) -> dict[str, Tensor]:
        """Stem -> [channel, window], of the waveform."""
        return {name: x.double().square().sum(-1).sqrt().float() for name, x in self.std.items()}


class SpreadMap:
    """Sums of energies of a track's deviations, [batch, sources, window, band]."""

    def __init__(self, batch: int, sources: int, time: int, sample_rate: int) -> None:
        self.time, self.rate = time, sample_rate
        self.length = max(round(HOP * sample_rate), -(-time // WINDOWS))
        self.hop = self.length / sample_rate
        self.edges = band_edges(sample_rate)
        self.energy = torch.zeros(batch, sources, -(-time // self.length), BANDS)

    def add(self, deviation: Tensor, start: int, item: int, weight: float) -> None:
        """[sources, any] of the batch's ``item``, from sample ``start`` of the track on."""
        first = start // self.length
        power = self._power(F.pad(deviation, (start % self.length, 0)))
        self.energy[item, :, first : first + power.shape[1]] += weight * power.cpu()

    def _power(self, x: Tensor) -> Tensor:
        return band_power(x, self.length, self.edges, self.rate)

    def std(self) -> Tensor:
        """[batch, sources, window, band]"""
        rest = torch.arange(self.energy.shape[2], 0, -1) * self.length
        samples = (rest - (rest[0] - self.time)).clamp(max=self.length)
        return (self.energy / samples[:, None]).clamp_min(0).sqrt()


def band_edges(sample_rate: int) -> tuple[float, ...]:
    """In Hz."""
    top = 2595 * torch.tensor(1 + sample_rate / 1400, dtype=torch.float64).log10()
    mel = torch.linspace(0, float(top), BANDS + 1, dtype=torch.float64)
    return tuple((700 * (10 ** (mel / 2595) - 1)).tolist())


def band_power(x: Tensor, length: int, edges: Sequence[float], sample_rate: int) -> Tensor:
    """Energies of [..., time] in windows of ``length`` samples and bands: [..., window, band].

    The windows are rectangles side by side: where ``edges``, in Hz, reach from 0 to half the rate,
    the sum over bands is that of the squares (Parseval).
    """
    frames = F.pad(x, (0, -x.shape[-1] % length)).unflatten(-1, (-1, length))
    power = torch.fft.rfft(frames).abs().square() / length
    power[..., 1 : (length + 1) // 2] *= 2  # their mirror images above half the rate
    frequencies = torch.arange(power.shape[-1], dtype=torch.float64) * sample_rate / length
    band = torch.bucketize(frequencies, torch.tensor(edges[1:-1], dtype=torch.float64), right=True)
    inside = frequencies <= edges[-1] * (1 + 1e-9)
    return power @ (inside[:, None] * F.one_hot(band, len(edges) - 1)).to(power)
