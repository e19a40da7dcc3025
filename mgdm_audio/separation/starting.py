"""Separates a track with another preset first, as the estimate that a sampler starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.audio.store import Store
from mgdm_audio.engine.runner import Progress
from mgdm_audio.samplers.presets import Preset
from mgdm_audio.separation.drawing import Drawing
from mgdm_audio.separation.segments import Segmentation, starts
from mgdm_audio.separation.speeds import speeds_of


def starts_by_image(segmentation: Segmentation, start: Preset) -> bool:
    """Returns whether ``start`` separates two channels by draws of their mean, see ``stereo``."""
    return replace(segmentation, means=start.draws_means).image(False)


def prepare_start(
    drawing: Drawing,
    preset: Preset,
    segment: int,
    store: Callable[[tuple[int, ...]], Store],
    image: bool = False,
) -> Store:
    """Makes ``drawing`` start from the estimate of ``preset``, its own preset's ``start``.

    The whole track is separated with the draws and speeds of ``preset``, and with the segments,
    join and seed of ``drawing``, so that the start equals a separation by that preset alone.
    ``segment``: samples. ``store(shape)`` makes a store of [batch, sources, time] at the prior's
    level, which is returned and must be closed after the drawing. ``image``: see ``stereo``.
    """
    found = store((drawing.batch, len(drawing.runner.stems)))
    first = replace(
        drawing,
        runner=drawing.runner.with_preset(preset),
        spread=None,
        speeds=drawing.speeds if drawing.join == "condition" else speeds_of(preset),
        draws=preset.draws,
        keep=False,
        image=image,
        on_progress=_without_progress(drawing.on_progress),
    )
    for rows in first.pieces():
        found.append(rows[0])
    begin = starts(drawing.time, segment, drawing.overlap)

    def start_at(index: int) -> Tensor:
        part = found.read(begin[index], min(begin[index] + segment, drawing.time))
        return F.pad(part, (0, segment - part.shape[-1])).to(drawing.runner.device)

    drawing.start_at = start_at
    return found


def _without_progress(on_progress: Progress | None) -> Progress | None:
    """Reports no progress, since a start is cheap, but lets the callback stop the run."""
    return None if on_progress is None else lambda done, total: on_progress(0, total)
