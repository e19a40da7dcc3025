"""The true stems of a track, for the scripts that compare a separation with them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mgdm_audio.audio.io import read
from mgdm_audio.audio.resampling import resample
from mgdm_audio.errors import UserError


def true_stems(
    stems: Sequence[str], files: dict[str, Path], rate: int, seconds: float | None = None
) -> Tensor:
    """Returns ``stems``, [stem, time], mono, at ``rate`` Hz; one without a file is silent.

    ``seconds``: only so many, from the middle; None, or where there are fewer: all. Raises
    UserError for files that cannot be read, and where there is none of these stems.
    """
    waves = {}
    for stem in stems:
        if stem in files:
            sound = read(files[stem], damaged="refuse")
            waves[stem] = resample(sound.samples.mean(0), sound.sample_rate, rate)
    if not waves:
        raise UserError(f"{next(iter(files.values())).parent}: has no stem of the prior")
    silence = torch.zeros_like(next(iter(waves.values())))
    found = torch.stack([waves.get(stem, silence) for stem in stems])
    length = found.shape[-1] if seconds is None else round(seconds * rate)
    start = max(0, (found.shape[-1] - length) // 2)
    return found[:, start : start + length]
