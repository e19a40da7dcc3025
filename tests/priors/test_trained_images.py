"""Folders of our own networks: what is saved is opened again, and damage is one clear line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.priors.folder import CONFIG, WEIGHTS
from mgdm_audio.priors.images import load_image_prior
from mgdm_audio.priors.images.trained_images import save_trained
from tests.images.toys import tiny_autoencoder, tiny_unet

SCHEDULE = NoiseSchedule.karras(sigma_max=80.0, num_levels=50)


def test_a_pixel_prior_is_opened_as_it_was_saved(tmp_path: Path) -> None:
    network = tiny_unet(3)
    save_trained(tmp_path / "digits", network, SCHEDULE, (8, 12))
    opened = load_image_prior(tmp_path / "digits")
    assert (opened.name, opened.image_shape) == ("digits", (3, 8, 12))
    assert (opened.prior.event_shape, opened.prior.codec) == ((3, 8, 12), None)
    assert opened.sha256 == {WEIGHTS: hash_file(tmp_path / "digits" / WEIGHTS)}
    assert torch.equal(opened.prior.schedule.sigma, SCHEDULE.sigma)
    x, sigma = torch.ones(2, 3, 8, 12), torch.tensor([0.1, 2.0])
    assert torch.equal(opened.prior.denoiser(x, sigma), network(x, sigma))


def test_a_latent_prior_is_opened_with_its_autoencoder(tmp_path: Path) -> None:
    autoencoder = tiny_autoencoder()
    save_trained(tmp_path, tiny_unet(2), SCHEDULE, (4, 4), autoencoder)
    opened = load_image_prior(tmp_path)
    assert (opened.prior.event_shape, opened.image_shape) == ((2, 4, 4), (1, 8, 8))
    assert list(opened.sha256) == [WEIGHTS, f"autoencoder/{WEIGHTS}"]
    codec, x = opened.prior.codec, torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    assert codec is not None
    assert torch.equal(codec.encode(x), autoencoder.encode(x))
    assert torch.equal(codec.decode(codec.encode(x)), autoencoder.decode(autoencoder.encode(x)))


def edit(path: Path, **changes: Any) -> None:
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "is not the": lambda f: edit(f / CONFIG, sha256="0" * 64),
    "lacks 'size'": lambda f: edit(f / CONFIG, size=None),
    "size [0, 8]: give height and width": lambda f: edit(f / CONFIG, size=[0, 8]),
    "unknown noise schedule": lambda f: edit(f / CONFIG, schedule={"kind": "none"}),
    "a prior for sound (tf_unet); give": lambda f: edit(f / CONFIG, model_type="tf_unet"),
    "model_type 'gan'; a prior for images": lambda f: edit(f / CONFIG, model_type="gan"),
    "unknown key 'width'; did you mean widths": lambda f: edit(f / CONFIG, model={"width": [8]}),
    "widths = (12,): give multiples of 8": lambda f: edit(f / CONFIG, model={"widths": [12]}),
    "it does not fit": lambda f: edit(f / CONFIG, model={"channels": 2, "widths": [8]}),
    "takes 2 channels, its autoencoder has 3": lambda f: save_trained(
        f, tiny_unet(2), SCHEDULE, (4, 4), tiny_autoencoder(latent_channels=3)
    ),
}


@pytest.mark.parametrize("says", DAMAGES)
def test_damage_is_named_in_one_line(tmp_path: Path, says: str) -> None:
    save_trained(tmp_path, tiny_unet(2), SCHEDULE, (4, 4), tiny_autoencoder())
    DAMAGES[says](tmp_path)
    with pytest.raises(UserError) as caught:
        load_image_prior(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
