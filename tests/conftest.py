import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from mgdm_audio import registry as importing
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.priors.folder import save_prior
from tests.guides import RATE, forget
from tests.toys import STEMS, TINY, song, tiny_network


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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of a documents' example, with song.mp3; what it registers is forgotten."""
    soundfile.write(tmp_path / "song.mp3", song(1, 2, RATE, RATE).T.numpy(), RATE, format="MP3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importing, "_imported", [])
    yield tmp_path
    forget()
