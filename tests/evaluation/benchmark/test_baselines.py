"""The estimates that need no sampling: exact answers."""

from pathlib import Path

import pytest
import torch

from mgdm_audio.audio.io import read, write
from mgdm_audio.evaluation.benchmark import baselines
from mgdm_audio.networks.tf_unet import TFUNet
from mgdm_audio.priors.folder import load_prior
from tests.toys import STEMS, song

RATE = 22050


def test_every_baseline_sums_to_the_mixture(tiny_prior: Path) -> None:
    prior = load_prior(tiny_prior)
    assert isinstance(prior.network, TFUNet)
    truth = song(0, 8, 6000, RATE).view(4, 2, 6000)  # stereo
    mixture = truth.sum(0)
    names = list(STEMS)
    split = baselines.wiener_split(
        mixture, truth, names, prior=prior, network=prior.network, scale=prior.network.scale
    )
    for estimates in (
        split,
        baselines.equal_shares(mixture, truth, names),
        baselines.oracle_mask(mixture, truth, names),
    ):
        assert estimates.shape == truth.shape
        torch.testing.assert_close(estimates.sum(0), mixture, atol=1e-4, rtol=0)


def test_the_split_follows_the_order_of_the_names(tiny_prior: Path) -> None:
    prior = load_prior(tiny_prior)
    truth = song(0, 2, 3000, RATE)[:, None]
    assert isinstance(prior.network, TFUNet)
    some = {"prior": prior, "network": prior.network, "scale": prior.network.scale}
    forth = baselines.wiener_split(truth.sum(0), truth, ["bass", "piano"], **some)
    back = baselines.wiener_split(truth.sum(0), truth, ["piano", "bass"], **some)
    torch.testing.assert_close(forth.flip(0), back)


def test_the_oracle_separates_what_never_sounds_together() -> None:
    truth = torch.zeros(2, 1, 40000)
    truth[0, :, :16000] = song(0, 1, 16000, RATE)
    truth[1, :, 24000:] = song(1, 1, 16000, RATE)
    estimates = baselines.oracle_mask(truth.sum(0), truth, ["bass", "drums"])
    torch.testing.assert_close(estimates, truth, atol=1e-5, rtol=0)


def test_training_levels_are_the_rms_of_each_band(tmp_path: Path, tiny_prior: Path) -> None:
    prior = load_prior(tiny_prior)
    for number in (7, 12):
        (track := tmp_path / f"Track{number:05d}").mkdir()
        for stem, wave in zip(STEMS, song(number, 4, 3 * RATE, RATE), strict=True):
            write(track / f"{stem}.wav", wave[None], RATE)
    levels = baselines.training_levels(tmp_path, prior, prior.network)
    waves = [read(tmp_path / track / "bass.wav").samples for track in ("Track00007", "Track00012")]
    # The transform is orthonormal: the powers of all bands of a frame are those of its samples.
    power = sum(float(wave.square().mean()) for wave in waves) / 2
    assert float(levels[0].square().mean()) == pytest.approx(power, rel=0.02)
