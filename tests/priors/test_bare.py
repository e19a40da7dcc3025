"""Weights that come without hyper-parameters, in every format."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mgdm_audio.priors.convert_msdm import convert
from mgdm_audio.priors.folder import load_prior
from tests.networks.test_unet_1d import SMALL
from tests.priors.public import make, noisy


def save_before_torch_1_6(weights: dict[str, Tensor], path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("part", "save", "name"),
    [
        ("whole", torch.save, "weights.pt"),
        ("unet", torch.save, "weights.pt"),
        ("unet", save_before_torch_1_6, "weights.pt"),
        ("unet", save_file, "weights.safetensors"),
    ],
)
def test_what_the_checkpoint_does_not_say_is_taken_as_published_and_named(
    public: ModuleType, tmp_path: Path, part: str, save: Callable[..., object], name: str
) -> None:
    """A bare state dict, of the whole module or of its network alone, in every format."""
    config = replace(SMALL, heads=8, head_features=2)
    theirs = make(public, config)
    save((theirs if part == "whole" else theirs.unet).state_dict(), tmp_path / name)
    (network,) = convert(tmp_path / name, tmp_path / "prior")
    assert network.config == config
    assumed = ("resnet_groups = 8", "attention_heads = 8", "diffusion_sigma_data = 0.2")
    assert network.assumed == assumed
    card = (tmp_path / "prior" / "README.md").read_text()
    assert all(setting in card for setting in assumed)
    x = noisy(1.0)
    with torch.no_grad():
        actual = load_prior(tmp_path / "prior").prior.denoiser(x, torch.tensor(1.0))
    expected = theirs.diffusion.denoise_fn(x, sigma=1.0)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
