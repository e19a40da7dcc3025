from pathlib import Path

import pytest

from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.priors.folder import save_prior
from tests.toys import STEMS, TINY, tiny_network


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior directory whose network is small and random: it separates badly, but by all rules."""
    folder = tmp_path_factory.mktemp("priors") / "tiny"
    details = {
        "schedule": NoiseSchedule.karras().to_config(),
        "stems": list(STEMS),
        "sample_rate": 22050,
        "mixture_rms": 0.08,
        "segment": 2**14,
    }
    save_prior(folder, tiny_network(0), TINY, "tf_unet", details)
    return folder
