"""What the separator found for one mixture: stems, how far the draws lie apart, and a folder."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.audio.io import write
from mgdm_audio.audio.pcm import SUBTYPES, common_gain, quantise_together
from mgdm_audio.audio.result_folder import whole
from mgdm_audio.errors import UserError

RECORD, UNCERTAINTY, DRAWS = "separation.json", "uncertainty.json", "samples"


@dataclass(frozen=True)
class Separation:
    """Stems of one mixture, each the mean of posterior draws, and how they were made.

    ``stems``: name -> [channel, time] float32 at ``sample_rate`` Hz, as many samples as the
    mixture; they sum to ``mixture``. ``report`` is ready for JSON.

    ``std``: name -> [channel, window], in the stems' unit: the standard deviation over the draws
    (N - 1 in the denominator) of each sample at the prior's rate, as the rms over consecutive
    windows of ``std_hop`` seconds, the first at 0, the last one cut short. It is how uncertain one
    draw is; the error of the mean that comes from the number of draws is sqrt(N) times smaller.
    None with a single draw.

    ``draws``: [draw, stem, channel, time] where they were to be kept; each sums to ``mixture``.
    """

    mixture: Tensor  # [channel, time], what was separated
    stems: dict[str, Tensor]
    sample_rate: int
    report: dict[str, Any]
    std: dict[str, Tensor] | None
    std_hop: float  # seconds
    draws: Tensor | None = None

    @property
    def confidence_db(self) -> dict[str, float | None] | None:
        """Name -> 10 log10(energy of the stem / energy of ``std``), at most 300; None if silent.

        How far a stem stands out of the draws' disagreement about it. It bears on the true error
        only as far as the draws are the posterior's. Those of the preset "default" are not: each
        is an estimate of the mean by a single call. And a weak prior is sure of itself: with
        either, draws agree far better than they are right.
        """
        if self.std is None:
            return None
        result: dict[str, float | None] = {}
        windows = self.mixture.shape[-1] / self.sample_rate / self.std_hop
        for name, std in self.std.items():
            weights = (windows - torch.arange(std.shape[-1], dtype=torch.float64)).clamp(0, 1)
            variance = float((std.double().square().mean(0) * weights).sum() / weights.sum())
            power = float(self.stems[name].double().square().mean())
            ratio = power / max(variance, 1e-30 * power) if power > 0 else None
            result[name] = None if ratio is None else 10 * math.log10(ratio)
        return result

    def save(self, folder: str | Path, subtype: str = "PCM_24") -> dict[str, Any]:
        """Write <stem>.wav, uncertainty.json and separation.json; returns what the last one holds.

        Draws that were kept go to samples/<draw>/<stem>.wav. ``subtype``: PCM_16, PCM_24 or FLOAT;
        PCM files sum to the mixture as exactly as the float32 stems do (within a step of 24 bits),
        lowered by one common gain (in the record) where any of them would clip. The folder is
        written whole or not at all; in one that is there already files of the same names are
        replaced, and draws of an earlier result removed.
        Raises UserError where it cannot be written to.
        """
        if subtype not in SUBTYPES:
            raise UserError(f"subtype {subtype!r} is unknown; use one of {', '.join(SUBTYPES)}")
        folder = Path(folder)
        parts = [torch.stack(list(self.stems.values()))]
        parts += [] if self.draws is None else list(self.draws)
        gain = min(common_gain(part, self.mixture, subtype) for part in parts)
        with whole(folder, RECORD, partial(_discard, stems=list(self.stems))) as fresh:
            for i, part in enumerate(parts):
                place = fresh / DRAWS / str(i - 1) if i else fresh
                place.mkdir(parents=True, exist_ok=True)
                rounded = quantise_together(part * gain, subtype)
                for name, samples in zip(self.stems, rounded, strict=True):
                    write(place / f"{name}.wav", samples, self.sample_rate, subtype)
                if not i:
                    residual_db = _residual_db(rounded, gain * self.mixture.double())
            record = self.report | {"subtype": subtype, "gain": gain, "residual_db": residual_db}
            (fresh / UNCERTAINTY).write_text(json.dumps(self._uncertainty(gain)) + "\n")
            (fresh / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        return record

    def _uncertainty(self, gain: float) -> dict[str, Any]:
        """``confidence_db`` and ``std`` for JSON, the channels of ``std`` joined to one rms."""
        record: dict[str, Any] = {
            "draws": self.report["draws"],
            "hop_seconds": self.std_hop,
            "confidence_db": None,
            "std": None,
        }
        if self.std is not None and self.confidence_db is not None:
            record["confidence_db"] = {
                name: None if value is None else round(value, 2)
                for name, value in self.confidence_db.items()
            }
            # Three digits: more than a few draws establish.
            record["std"] = {
                name: [float(f"{value:.3g}") for value in _rms(gain * std.double()).tolist()]
                for name, std in self.std.items()
            }
        return record


def _rms(std: Tensor) -> Tensor:
    """[channel, window] -> [window]"""
    return std.square().mean(0).sqrt()


def _residual_db(stems: Tensor, mixture: Tensor) -> float:
    """Of what is written, against the mixture [channel, time] in double precision."""
    residual, power = (stems.double().sum(0) - mixture).square().mean(), mixture.square().mean()
    # A silent mixture has no level to compare with: full scale is the reference then.
    ratio = float(residual / power) if power > 0 else float(residual)
    return round(10 * math.log10(max(ratio, 1e-30)), 1)


def _discard(folder: Path, stems: list[str]) -> None:
    """Remove what an earlier separation left beside its stems and record."""
    (folder / UNCERTAINTY).unlink(missing_ok=True)
    for old in (folder / DRAWS).glob("[0-9]*"):
        for stem in stems if old.name.isdigit() else ():
            (old / f"{stem}.wav").unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else
            old.rmdir()
    with suppress(OSError):
        (folder / DRAWS).rmdir()
