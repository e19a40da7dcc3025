"""How far posterior draws lie apart, for uncertainty.json."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def confidence_db(
    power: Mapping[str, float], std: Mapping[str, Tensor], windows: float
) -> dict[str, float | None]:
    """Name -> 10 log10(power of the stem / that of its ``std``), at most 300; None if silent.

    ``power``: mean square; ``std``: [channel, window]; ``windows``: how many there are, of which
    the last may be a part.
    """
    result: dict[str, float | None] = {}
    for name, spread in std.items():
        weights = (windows - torch.arange(spread.shape[-1], dtype=torch.float64)).clamp(0, 1)
        variance = float((spread.double().square().mean(0) * weights).sum() / weights.sum())
        ratio = power[name] / max(variance, 1e-30 * power[name]) if power[name] > 0 else None
        result[name] = None if ratio is None else 10 * math.log10(ratio)
    return result


def uncertainty_record(
    draws: int,
    hop_seconds: float,
    std: Mapping[str, Tensor] | None,
    confidence: Mapping[str, float | None] | None,
    gain: float,
) -> dict[str, Any]:
    """Both of them for JSON, the channels of ``std`` joined to one rms and lowered by ``gain``."""
    record: dict[str, Any] = {
        "draws": draws,
        "hop_seconds": hop_seconds,
        "confidence_db": None,
        "std": None,
    }
    if std is not None and confidence is not None:
        record["confidence_db"] = {
            name: None if value is None else round(value, 2) for name, value in confidence.items()
        }
        # Three digits: more than a few draws establish.
        record["std"] = {
            name: [float(f"{value:.3g}") for value in _rms(gain * spread.double()).tolist()]
            for name, spread in std.items()
        }
    return record


def _rms(std: Tensor) -> Tensor:
    """[channel, window] -> [window]"""
    return std.square().mean(0).sqrt()
