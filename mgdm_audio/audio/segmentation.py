"""How a mixture is put before a prior: its level, its segments and how these are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

import torch
from torch import Tensor

from mgdm_audio.audio.joins import Join
from mgdm_audio.audio.runner import StemRunner
from mgdm_audio.audio.speeds import Speeds, speeds_of
from mgdm_audio.errors import UserError
from mgdm_audio.ranges import Checked, Rule

JOINS: tuple[Join, ...] = get_args(Join)
LEVELS = ("rms", "none")  # see ``Segmentation.level``


def _choice(words: Sequence[str]) -> Rule:
    return Rule(words.__contains__, "{name} {value!r}: choose one of " + ", ".join(words))


@dataclass(frozen=True)
class Segmentation(Checked):
    """Of a mixture, for one prior. Lengths in samples at the prior's rate."""

    segment: int
    overlap: int  # of neighbouring segments
    multiple: int  # of which every segment is one, see ``StemRunner.multiple``
    mixture_rms: float  # the level of the mixtures that the prior was trained on, linear
    join: Annotated[Join, _choice(JOINS)] = "crossfade"  # see ``drawing``
    # "rms" brings a mixture to the prior's level, "none" leaves it as it is.
    level: Annotated[str, _choice(LEVELS)] = "rms"
    speeds: Speeds = (0.0,)  # semitones; the draws take turns, see ``speeds``

    @classmethod
    def of(
        cls,
        runner: StemRunner,
        segment: float,
        overlap: float,
        join: Join,
        level: str,
        speeds: Sequence[float] | None,
    ) -> Segmentation:
        """``segment``, ``overlap``: seconds. ``speeds``: by default the preset's.

        With ``join="condition"`` there is one speed: a sample decided at one lies between samples
        at another. Raises UserError for settings that cannot be.
        """
        if not 0 <= overlap < segment / 2:
            raise UserError(f"overlap {overlap} s: choose at least 0 and under half of {segment} s")
        speeds = speeds_of(runner.preset) if speeds is None else tuple(speeds)
        speeds = (0.0,) if join == "condition" else speeds
        loaded, multiple = runner.loaded, runner.multiple
        samples = max(1, round(segment * loaded.sample_rate) // multiple) * multiple
        held = round(overlap * loaded.sample_rate)
        return cls(samples, held, multiple, loaded.mixture_rms, join, level, speeds)

    def cuts(self, time_: int) -> tuple[int, int]:
        """Segment and overlap for a mixture of ``time_`` samples."""
        segment = min(self.segment, -(-time_ // self.multiple) * self.multiple)
        overlap = min(self.overlap, (segment - 1) // 2)
        return segment, overlap

    def level_gain(self, level: Tensor, unit: float = 1.0) -> Tensor:
        """What brings a mixture of this active level to the prior's; 1 for silence.

        Where mixtures are left as they are: ``unit``, by which this one was divided.
        """
        if self.level == "none":
            return torch.full_like(level, unit)
        return torch.where(level > 0, self.mixture_rms / level.clamp_min(1e-30), 1.0)
