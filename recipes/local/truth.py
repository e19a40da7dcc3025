"""The true stems of a track, for the scripts that compare a separation with them."""

from pathlib import Path

import torch
from torch import Tensor

from mgdm_audio.audio.io import read
from mgdm_audio.audio.resampling import resample
from mgdm_audio.errors import UserError
from mgdm_audio.separation.separator import Separator


def true_stems(separator: Separator, files: dict[str, Path]) -> Tensor:
    """The separator's stems, [stem, time], mono, at its prior's rate; one without a file is silent.

    Raises UserError for files that cannot be read, and where there is none of these stems.
    """
    rate, waves = separator.loaded.sample_rate, {}
    for stem in separator.stems:
        if stem in files:
            sound = read(files[stem], damaged="refuse")
            waves[stem] = resample(sound.samples.mean(0), sound.sample_rate, rate)
    if not waves:
        raise UserError(f"{next(iter(files.values())).parent}: has no stem of the prior")
    silence = torch.zeros_like(next(iter(waves.values())))
    return torch.stack([waves.get(stem, silence) for stem in separator.stems])
