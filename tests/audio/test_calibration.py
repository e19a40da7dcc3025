"""Reported variances: right for a network that is right, and made right for one that is not."""

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from mgdm_audio.audio.calibration import calibrate, squared_residuals
from mgdm_audio.audio.datasets import StemFolder
from mgdm_audio.audio.io import write
from mgdm_audio.checkpoint import load_prior, save_prior
from mgdm_audio.cli.main import main
from mgdm_audio.diffusion.posterior import Calibration, MixtureDenoiser, Posterior
from mgdm_audio.errors import UserError
from mgdm_audio.networks.tf_unet import TFUNet
from tests.toys import STEMS, TINY, song, tiny_network

SIGMAS = (0.01, 0.1, 1.0)


def draws(network: TFUNet, count: int, frames: int) -> Tensor:
    """Of the Gaussian with the network's scale per source and bin, which it assumes untrained."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, TINY.sources, frames + 1, TINY.bins)
    coefficients = network.scale[:, None] * torch.randn(shape, generator=generator)
    coefficients[:, :, [0, -1]] = 0  # frames at the ends overlap with none
    return network.synthesis(coefficients, frames * TINY.bins)


def test_the_exact_network_is_calibrated_and_factors_mend_a_wrong_one() -> None:
    network = tiny_network(1, trained=False)
    x_0 = draws(network, 4, 60)
    exact = squared_residuals(MixtureDenoiser(network), x_0, SIGMAS).mean(0)
    # Means of 4 x 59 x 64 squares of normals (and the silent ends, 1 in 30 frames): 1 within five
    # standard deviations sqrt(2 / n) and the ends' share.
    assert (exact - 1).abs().max() < 5 * math.sqrt(2 / (4 * 59 * 64)) + 2 / 61
    wrong = Calibration(torch.tensor(SIGMAS), torch.full((2, 3, 4), 2.0))
    halved = squared_residuals(MixtureDenoiser(network, calibration=wrong), x_0, SIGMAS)
    torch.testing.assert_close(halved.mean(0), exact / 2)
    mended = calibrate(MixtureDenoiser(network, calibration=wrong), halved, SIGMAS)
    torch.testing.assert_close(mended.factors, exact)
    right = squared_residuals(MixtureDenoiser(network, calibration=mended), x_0, SIGMAS)
    torch.testing.assert_close(right.mean(0), torch.ones(2, 3, 4))


def test_factors_are_log_linear_between_levels_and_constant_beyond() -> None:
    factors = torch.tensor([[[1.0, 2.0], [4.0, 8.0]], [[3.0, 3.0], [3.0, 12.0]]])
    table = Calibration(torch.tensor([0.01, 1.0]), factors)
    at = torch.tensor([0.001, 0.01, 0.1, 1.0, 20.0])
    want = torch.tensor([[1.0, 2.0], [1.0, 2.0], [2.0, 4.0], [4.0, 8.0], [4.0, 8.0]])
    torch.testing.assert_close(table(at, given=False), want)
    torch.testing.assert_close(table(torch.tensor(0.1), given=True), torch.tensor([[3.0, 6.0]]))
    again = Calibration.from_config(json.loads(json.dumps(table.to_config())))
    assert torch.equal(again.factors, table.factors)
    single = Calibration(torch.tensor([0.1]), factors[:, :1])
    assert torch.equal(single(at, given=False), torch.tensor([[1.0, 2.0]]).expand(5, 2))
    for sigmas, bad in (((1.0, 0.01), factors), ((0.01, 1.0), -factors), ((0.01,), factors)):
        with pytest.raises(ValueError, match="calibration"):
            Calibration(torch.tensor(sigmas), bad)


def test_it_scales_what_the_network_reports_and_nothing_else() -> None:
    network = tiny_network(0)
    x, y = 0.1 * torch.ones(2, 4, 128), torch.ones(2, 1, 128)
    sigma = torch.tensor([0.01, 1.0])
    factors = torch.rand(2, 2, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    table = Calibration(sigma, factors)
    for mode in (False, True):
        plain = MixtureDenoiser(network, y if mode else None)
        fitted = MixtureDenoiser(network, calibration=table)
        fitted = fitted.given(y) if mode else fitted
        a, b = (d.posterior(x, sigma, "reported") for d in (plain, fitted))
        assert isinstance(a, Posterior)
        assert isinstance(b, Posterior)
        assert torch.equal(a.mean, b.mean)
        expected = a.variance * factors[int(mode)][:, :, None, None]
        torch.testing.assert_close(b.variance, expected)
        a, b = (d.posterior(x, sigma, "band") for d in (plain, fitted))
        assert isinstance(a, Posterior)
        assert isinstance(b, Posterior)
        assert torch.equal(a.variance, b.variance)


def test_the_command_writes_a_calibrated_prior_in_half_precision(
    tiny_prior: Path, tmp_path: Path
) -> None:
    (tmp_path / "stems" / "a").mkdir(parents=True)
    for stem, wave in zip(STEMS, song(0, 4, 2**16, 22050), strict=True):
        write(tmp_path / "stems" / "a" / f"{stem}.wav", wave[None], 22050)
    stems = str(tmp_path / "stems")
    arguments = ["priors", "calibrate", str(tiny_prior), stems, "--segments", "1"]
    out = tmp_path / "new"
    result = CliRunner().invoke(main, [*arguments, "-o", str(out), "--half"])
    assert result.exit_code == 0, result.output
    before, after = load_prior(tiny_prior), load_prior(out)
    for name, weight in before.network.state_dict().items():
        # float16 has 11 bits, and steps of 6e-8 near zero.
        other = after.network.state_dict()[name]
        assert other.dtype == weight.dtype
        torch.testing.assert_close(other, weight, rtol=2**-11, atol=6e-8)
    assert (out / "model.safetensors").stat().st_size < 0.6 * (
        tiny_prior / "model.safetensors"
    ).stat().st_size
    result = CliRunner().invoke(main, [*arguments[:2], str(out), *arguments[3:]])
    # Measured again on the same noise: 1, but for weights rounded in the meantime.
    values = [float(line.split(": ")[1].split()[0]) for line in result.output.splitlines()]
    assert len(values) == 16
    assert all(abs(value - 1) < 0.02 for value in values)


def test_folders_count_alike_in_the_factors(tiny_prior: Path, tmp_path: Path) -> None:
    for i, folder in enumerate(("a/one", "b/two", "b/three")):
        (tmp_path / folder).mkdir(parents=True)
        for stem, wave in zip(STEMS, song(i, 4, 2**17, 22050), strict=True):
            write(tmp_path / folder / f"{stem}.wav", wave[None], 22050)
    folders = [str(tmp_path / name) for name in ("a", "b")]
    arguments = ["priors", "calibrate", str(tiny_prior), *folders, "--segments", "2"]
    result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    x_0 = torch.cat([StemFolder(folder, STEMS, 22050).fixed(2, 2**17) for folder in folders])
    found = load_prior(tmp_path / "new").prior.denoiser
    assert isinstance(found, MixtureDenoiser)
    assert found.calibration is not None
    before = load_prior(tiny_prior).prior.denoiser
    assert isinstance(before, MixtureDenoiser)
    # The factors pass through decimal text of float32, which is exact.
    assert torch.equal(found.calibration.factors, squared_residuals(before, x_0).mean(0))


def test_a_damaged_calibration_is_one_line(tiny_prior: Path, tmp_path: Path) -> None:
    loaded = load_prior(tiny_prior)
    keys = ("schedule", "stems", "sample_rate", "mixture_rms", "segment")
    details = {key: loaded.config[key] for key in keys} | {"calibration": {"sigmas": [1.0]}}
    save_prior(tmp_path / "bad", loaded.network, TINY, "tf_unet", details)
    with pytest.raises(UserError, match="prior"):
        load_prior(tmp_path / "bad")
