"""What the separator found for one mixture: stems, how uncertain they are, and a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.audio.layout import Layout
from mgdm_audio.audio.pcm import common_gain
from mgdm_audio.audio.spread import Spread
from mgdm_audio.audio.stem_files import Block, Shape, check_subtype, write_result
from mgdm_audio.audio.uncertainty import confidence_db, uncertainty_record
from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError

RECORD, UNCERTAINTY = "separation.json", "uncertainty.json"  # as Layout names them by default
_BLOCK = 2**18  # samples written at a time


@dataclass(frozen=True, eq=False)
class Separation(Mapping[str, Tensor]):
    """Stems of one mixture, each the mean of posterior draws, and how they were made.

    A mapping of names to ``stems``: ``result["bass"]``.

    ``stems``: name -> [channel, time] float32 at ``sample_rate`` Hz, as many samples as the
    mixture; they sum to ``mixture``. ``report`` is ready for JSON.

    ``spread``: how uncertain they are over time and frequency, at the prior's rate. None with a
    single draw.

    ``draws``: [draw, stem, channel, time] where they were to be kept; each sums to ``mixture``.
    """

    mixture: Tensor  # [channel, time], what was separated
    stems: dict[str, Tensor]
    sample_rate: int
    report: dict[str, Any]
    spread: Spread | None
    draws: Tensor | None = None

    def __getitem__(self, stem: str) -> Tensor:
        return self.stems[stem]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stems)

    def __len__(self) -> int:
        return len(self.stems)

    @property
    def confidence_db(self) -> dict[str, float | None] | None:
        """Name -> 10 log10(energy of the stem / of its ``spread``), at most 300; None if silent.

        The SI-SDR in dB that the posterior expects of its mean m: of a truth s = m + e, where e has
        the energy V of the spread and is orthogonal to m, (s, m)^2 / (|s|^2 |m|^2) is
        |m|^2 / (|m|^2 + V), hence an SI-SDR of |m|^2 / V. It is right as far as the draws and what
        the network reports are the posterior's.
        """
        if self.spread is None:
            return None
        power = {name: float(x.double().square().mean()) for name, x in self.stems.items()}
        return confidence_db(power, self.spread, self.mixture.shape[-1] / self.sample_rate)

    def two_stems(self, stem: str) -> Separation:
        """Only ``stem``, and "no_<stem>": the mixture less it, in the mean and in every draw.

        The two deviate alike from draw to draw, for their sum is given: one ``spread`` is both's.
        Raises UserError for an unknown stem.
        """
        index, names = check_stem(stem, self.stems)
        pair = pair_with_rest(torch.stack(list(self.stems.values())), self.mixture, index)
        spread = self.spread
        if spread is not None:
            spread = replace(spread, std=dict.fromkeys(names, spread.std[stem]))
        draws = self.draws
        if draws is not None:
            draws = torch.stack([pair_with_rest(x, self.mixture, index) for x in draws])
        report = self.report | {"two_stems": stem}
        stems = dict(zip(names, pair, strict=True))
        return replace(self, stems=stems, spread=spread, draws=draws, report=report)

    def save(self, place: str | Path | Layout, subtype: str = "PCM_24") -> dict[str, Any]:
        """Write <stem>.wav, uncertainty.json and separation.json; returns what the last one holds.

        ``place``: a folder, or a ``Layout`` of names. Draws that were kept go to
        samples/<draw>/<stem>.wav. ``subtype``: PCM_16, PCM_24 or FLOAT; PCM files sum to the
        mixture as exactly as the float32 stems do (within a step of 24 bits), lowered by one common
        gain (in the record) where any of them would clip. The folder is written whole or not at
        all; in one that is there already files of the same names are replaced, and those that
        the record of an earlier result lists are removed.
        Raises UserError where it cannot be written to.
        """
        check_subtype(subtype)
        layout = place if isinstance(place, Layout) else Layout(Path(place), "{stem}", "")
        parts = [torch.stack(list(self.stems.values()))]
        parts += [] if self.draws is None else list(self.draws)
        gain = min(common_gain(part, self.mixture, subtype) for part in parts)
        uncertainty = uncertainty_record(
            self.report["draws"], self.spread, self.confidence_db, gain
        )
        channels, time = self.mixture.shape
        return write_result(
            layout,
            list(self.stems),
            Shape(channels, time, self.sample_rate),
            self._blocks(parts),
            len(parts) - 1,
            subtype,
            gain,
            self.report,
            uncertainty,
        )

    def _blocks(self, parts: list[Tensor]) -> Iterator[Block]:
        for start in range(0, self.mixture.shape[-1], _BLOCK):
            span = slice(start, start + _BLOCK)
            yield Block(self.mixture[:, span], [part[..., span] for part in parts])


def check_stem(stem: str, stems: Iterable[str]) -> tuple[int, tuple[str, str]]:
    """Its index, and the names of it and of the rest. Raises UserError for an unknown stem."""
    names = list(stems)
    if stem not in names:
        raise UserError(f"the prior has no stem {stem!r}{nearest(stem, names)}")
    return names.index(stem), (stem, f"no_{stem}")


def pair_with_rest(stems: Tensor, mixture: Tensor, index: int) -> Tensor:
    """[stem, channel, time] -> stem ``index`` and the mixture [channel, time] less it."""
    return torch.stack([stems[index], mixture - stems[index]])
