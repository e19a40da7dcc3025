import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner

from mgdm_audio import registry as importing
from mgdm_audio.cli.main import main
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.priors.folder import read_config, save_prior
from tests.guides import RATE, forget
from tests.report.chromium import Browser, Page, chromium, find_axe, find_chromium
from tests.toys import ATTENDING, STEMS, TINY, song, tiny_network

DETAILS = ("schedule", "stems", "sample_rate", "mixture_rms", "segment")  # of config.json


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


@pytest.fixture(scope="session")
def exported(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A prior directory, and its ONNX file by ``priors export``; a skip without the packages.

    The network has every kind of layer that the bundled ones have. One export for all tests: torch
    takes some 20 s of processor time for it, however small the network is.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported")
    details = {key: read_config(tiny_prior).config[key] for key in DETAILS}
    save_prior(folder / "prior", tiny_network(3, config=ATTENDING), ATTENDING, "tf_unet", details)
    words = ["priors", "export", str(folder / "prior"), "-o", str(folder / "prior.onnx")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    megabytes = (folder / "prior.onnx").stat().st_size / 1e6
    assert result.stdout == f"{folder / 'prior.onnx'}: {', '.join(STEMS)}; {megabytes:.1f} MB\n"
    return folder / "prior", folder / "prior.onnx"


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


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests, which takes seconds to start."""
    path = find_chromium()
    if path is None:
        pytest.skip("needs Chromium: apt install chromium")
    with chromium(path, tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A new tab; it and all others are closed afterwards."""
    yield browser.tab()
    browser.close_tabs()


@pytest.fixture(scope="session")
def axe() -> Path:
    """The script of axe-core, which examines the accessibility of a page."""
    path = find_axe()
    if path is None:
        pytest.skip("needs axe-core: npm install --prefix PREFIX_OF_THIS_PYTHON axe-core")
    return path
