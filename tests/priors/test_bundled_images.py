"""The priors for images that the package holds: small, whole, and what their cards say."""

import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mgdm_audio.audio.io import write
from mgdm_audio.cli.main import main
from mgdm_audio.images.io import png
from mgdm_audio.priors.folder import bundled_folder, list_image_priors
from mgdm_audio.priors.images import load_image_prior

NAMES = list_image_priors()


def test_together_they_are_small() -> None:
    assert "digits-v1" in NAMES
    folders = [bundled_folder(name) for name in NAMES]
    files = [path for folder in folders if folder for path in folder.rglob("*")]
    assert sum(path.stat().st_size for path in files) < 6e6


@pytest.mark.parametrize("name", NAMES)
def test_they_go_by_name_and_denoise(name: str) -> None:
    opened = load_image_prior(name)  # which compares the hash
    assert (opened.name, opened.image_shape) == (name, (1, 28, 28))
    # Hidden in noise a hundred times as strong as they are, only their mean is known: all
    # estimates are nearly one, and black at the edges as all digits of MNIST are.
    noise = torch.randn(4, *opened.prior.event_shape, generator=torch.Generator().manual_seed(0))
    estimate = opened.prior.denoiser(60 * noise, torch.tensor(60.0))
    estimate = estimate if opened.prior.codec is None else opened.prior.codec.decode(estimate)
    assert float(estimate[..., :2, :].mean()) == pytest.approx(-1, abs=0.1)
    assert float(estimate[..., 8:20, 8:20].mean()) > -0.7
    assert float(estimate.std(0).mean()) < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_their_cards_have_a_licence_and_the_size(name: str) -> None:
    shown = CliRunner().invoke(main, ["priors", "show", name]).stdout
    assert "28 x 28 pixels, grey" in shown
    assert "Apache-2.0" in shown
    folder = bundled_folder(name)
    assert folder is not None
    size = re.search(r"size +(\d\.\d M parameters, \d\.\d MB)", shown)
    assert size is not None
    assert size[1] in (folder / "README.md").read_text()


@pytest.mark.parametrize("verb", ["separate", "sample"])
def test_verbs_for_sound_refuse_them(verb: str, tmp_path: Path) -> None:
    song = [str(song_file(tmp_path))] if verb == "separate" else []
    out = tmp_path / "out"
    result = CliRunner().invoke(main, [verb, *song, "--prior", "digits-v1", "-o", str(out)])
    assert result.exit_code == 1
    said = "error: digits-v1: a prior for images; give it to mgdm-audio restore"
    assert said in result.stderr.splitlines()
    assert not out.exists()


def song_file(folder: Path) -> Path:
    write(folder / "song.wav", torch.zeros(1, 22050), 22050)
    return folder / "song.wav"


def test_restore_refuses_a_prior_for_sound(tmp_path: Path) -> None:
    (image := tmp_path / "a.png").write_bytes(png(torch.zeros(1, 28, 28)))
    command = ["restore", str(image), "--task", "sr4", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*command, "--prior", "mini-slakh-v1"])
    assert result.exit_code == 1
    assert "a prior for sound (tf_unet); give it to mgdm-audio separate" in result.stderr
    assert len(result.stderr.splitlines()) == 1
