from pathlib import Path

import pytest

from mgdm_audio.priors.folder import load_prior
from mgdm_audio.samplers.presets import load_preset
from mgdm_audio.separation.separator import Separator


@pytest.fixture
def tiny(tiny_prior: Path) -> Separator:
    preset = load_preset("wiener", ["num_steps=2", "draws=1"])
    return Separator(load_prior(tiny_prior), preset, device="cpu")
