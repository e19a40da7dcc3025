"""How uncertain the stems are, for uncertainty.json."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.audio.spread import HOP, Spread

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
