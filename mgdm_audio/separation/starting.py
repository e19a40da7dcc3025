"""The estimate of a track that a sampler starts from: the stems of another preset, made first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.audio.store import Store
from mgdm_audio.engine.runner import Progress
from mgdm_audio.samplers.presets import Preset
from mgdm_audio.separation.drawing import Drawing
from mgdm_audio.separation.segments import starts
from mgdm_audio.separation.speeds import speeds_of


def prepare_start(
    drawing: Drawing, preset: Preset, segment: int, store: Callable[[tuple[int, ...]], Store]
) -> Store:
    """Has ``drawing`` start from the estimate of ``preset``, its own preset's ``start``.

    The start is separated as a whole track with as many draws and at the speeds of its own preset,
    and with the segments and the join of ``drawing``: with its seed it is what that preset alone
    would give. ``segment``: samples. ``store(shape)``: a new one, for [batch, sources, time] at the
    prior's level; it is returned, to be closed after the drawing.
    """
    found = store((drawing.batch, len(drawing.runner.stems)))
    first = replace(
        drawing,
        runner=drawing.runner.with_preset(preset),
        spread=None,
        speeds=drawing.speeds if drawing.join == "condition" else speeds_of(preset),
        draws=preset.draws,
        keep=False,
        on_progress=_standing(drawing.on_progress),
    )
    for rows in first.pieces():
        found.append(rows[0])
    begin = starts(drawing.time, segment, drawing.overlap)

    def start_at(index: int) -> Tensor:
        part = found.read(begin[index], min(begin[index] + segment, drawing.time))
        return F.pad(part, (0, segment - part.shape[-1])).to(drawing.runner.device)

    drawing.start_at = start_at
    return found


def _standing(on_progress: Progress | None) -> Progress | None:
    """A start is cheap beside what follows: no progress is shown, but the caller may stop it."""
    return None if on_progress is None else lambda done, total: on_progress(0, total)
