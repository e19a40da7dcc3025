"""Reported variances: right for a network that is right, and made right for one that is not."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from mgdm_audio.audio.io import write
from mgdm_audio.cli.main import main
from mgdm_audio.diffusion.posterior import Calibration, MixtureDenoiser, Posterior
from mgdm_audio.engine.device import at_precision
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.calibration import PER_OCTAVE, Residuals, calibrate, measure_residuals
from mgdm_audio.networks.tf_unet import TFUNet
from mgdm_audio.priors.folder import load_prior, save_prior
from mgdm_audio.training.stems import StemFolder
from tests.killing import full_disk
from tests.toys import STEMS, TINY, song, tiny_network

SIGMAS = (0.01, 0.1, 1.0)


def draws(network: TFUNet, count: int, frames: int) -> Tensor:
    """Of the Gaussian with the network's scale per source and bin, which it assumes untrained."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, TINY.sources, frames + 1, TINY.bins)
    coefficients = network.scale[:, None] * torch.randn(shape, generator=generator)
    coefficients[:, :, [0, -1]] = 0  # frames at the ends overlap with none
    return network.synthesis(coefficients, frames * TINY.bins)


def table(factor: float, exponent: float) -> Calibration:
    """The same at every level."""
    shape = (2, len(SIGMAS), 4)
    return Calibration(torch.tensor(SIGMAS), torch.full(shape, factor), torch.full(shape, exponent))


def test_the_exact_network_is_calibrated() -> None:
    network = tiny_network(1, trained=False)
    denoiser = MixtureDenoiser(network)
    exact = measure_residuals(denoiser, draws(network, 4, 60), SIGMAS)
    # Means of 4 x 59 x 64 squares of normals (and the silent ends, 1 in 30 frames): 1 within five
    # standard deviations sqrt(2 / n) and the ends' share. Of sums as loud as they are, n is less:
    # the loudest of 64 bins has at most an eighth of the power.
    bound = 5 * math.sqrt(2 / (4 * 59 * 64)) + 2 / 61
    assert (exact.standardised.mean(0) - 1).abs().max() < bound
    assert (exact.sums - 1).abs().max() < 5 * math.sqrt(2 / (4 * 59 * 8)) + 2 / 61


@pytest.mark.parametrize("trained", [False, True])
def test_a_correction_has_both_moments_and_undoes_what_was_done(trained: bool) -> None:
    network = tiny_network(1, trained=trained)
    x_0 = draws(network, 4, 60)
    plain = MixtureDenoiser(network)
    fitted = calibrate(plain, measure_residuals(plain, x_0, SIGMAS), SIGMAS)
    # Variances are counted in bins of an eighth of an octave, at the mean of their logarithms: of
    # u^q, q below 2 here, what is left is the second moment within a bin, at most a quarter of its
    # width squared, times q^2 / 2; and of r u^-q q times the covariance of log u and log r there,
    # which is less, r following u by a power below 2.
    bound = 2 * (math.log(2) / PER_OCTAVE) ** 2 / 4 * 2**2 / 2
    right = measure_residuals(MixtureDenoiser(network, calibration=fitted), x_0, SIGMAS)
    assert (right.standardised.mean(0) - 1).abs().max() < bound
    assert (right.sums - 1).abs().max() < bound
    # A report distorted before is brought to the same.
    wrong = MixtureDenoiser(network, calibration=table(2.0, 0.25))
    mended = calibrate(wrong, measure_residuals(wrong, x_0, SIGMAS), SIGMAS)
    other = measure_residuals(MixtureDenoiser(network, calibration=mended), x_0, SIGMAS)
    assert (other.standardised.mean(0) - 1).abs().max() < 2 * bound
    assert (other.sums - 1).abs().max() < 2 * bound


def test_known_errors_give_their_factor_and_exponent() -> None:
    """Errors^2 of 3 u^1.5 for variances u: f = 3 and e = .5, however they are distributed."""
    log_u = torch.linspace(-14, 5, 40, dtype=torch.float64).expand(2, 1, 4, -1)
    count = 1.0 + torch.arange(40.0, dtype=torch.float64).remainder(7).expand_as(log_u)
    denoiser, one = MixtureDenoiser(tiny_network(0)), torch.ones(1, 2, 1, 4)
    residuals = Residuals(one, one, one, count, count * 3 * (1.5 * log_u).exp(), log_u)
    found = calibrate(denoiser, residuals, (0.1,))
    torch.testing.assert_close(found.factors, torch.full((2, 1, 4), 3.0))
    torch.testing.assert_close(found.exponents, torch.full((2, 1, 4), 0.5))
    # Errors that do not follow the report: the exponent ends at its bound, and the sums are right.
    found = calibrate(denoiser, Residuals(one, one, one, count, count, log_u), (0.1,))
    torch.testing.assert_close(found.exponents, torch.full((2, 1, 4), -0.75))
    shrunk = found.factors.double() * (count * (0.25 * log_u).exp()).sum(-1)
    torch.testing.assert_close(shrunk, count.sum(-1))
    with pytest.raises(UserError, match="no errors at all"):
        calibrate(denoiser, Residuals(one, one, one, count, 0 * count, log_u), (0.1,))
    # One variance throughout has a factor alone, on the edge of two bins too.
    once = torch.zeros_like(count)
    once[..., 7:9] = torch.tensor([2.0, 1.0], dtype=torch.float64)
    edge = torch.zeros_like(log_u)
    edge[..., 7], edge[..., 8] = -1e-8, 1e-8
    errors = torch.zeros_like(count)
    errors[..., 7], errors[..., 8] = 2 * 4.9, 5.2  # three of mean 5
    found = calibrate(denoiser, Residuals(one, one, one, once, errors, edge), (0.1,))
    torch.testing.assert_close(found.factors, torch.full((2, 1, 4), 5.0))
    assert torch.equal(found.exponents, torch.zeros(2, 1, 4))


def test_corrections_are_log_linear_between_levels_and_constant_beyond() -> None:
    factors = torch.tensor([[[1.0, 2.0], [4.0, 8.0]], [[3.0, 3.0], [3.0, 12.0]]])
    exponents = torch.tensor([[[0.0, 0.5], [0.2, -0.5]], [[0.0, 0.0], [0.0, 1.0]]])
    corrections = Calibration(torch.tensor([0.01, 1.0]), factors, exponents)
    at = torch.tensor([0.001, 0.01, 0.1, 1.0, 20.0])
    factor, exponent = corrections.at(at, given=False)
    want = torch.tensor([[1.0, 2.0], [1.0, 2.0], [2.0, 4.0], [4.0, 8.0], [4.0, 8.0]])
    torch.testing.assert_close(factor, want)
    want = torch.tensor([[0.0, 0.5], [0.0, 0.5], [0.1, 0.0], [0.2, -0.5], [0.2, -0.5]])
    torch.testing.assert_close(exponent, want)
    factor, exponent = corrections.at(torch.tensor(0.1), given=True)
    torch.testing.assert_close(factor, torch.tensor([[3.0, 6.0]]))
    torch.testing.assert_close(exponent, torch.tensor([[0.0, 0.5]]))
    again = Calibration.from_config(json.loads(json.dumps(corrections.to_config())))
    assert torch.equal(again.factors, corrections.factors)
    assert torch.equal(again.exponents, corrections.exponents)
    single = Calibration(torch.tensor([0.1]), factors[:, :1], exponents[:, :1])
    assert torch.equal(single.at(at, given=False)[0], torch.tensor([[1.0, 2.0]]).expand(5, 2))
    for sigmas, bad in (((1.0, 0.01), factors), ((0.01, 1.0), -factors), ((0.01,), factors)):
        with pytest.raises(ValueError, match="calibration"):
            Calibration(torch.tensor(sigmas), bad, torch.zeros_like(bad))
    for wrong in (torch.full_like(factors, -1.0), torch.zeros(2, 2, 3)):
        with pytest.raises(ValueError, match="exponent"):
            Calibration(torch.tensor([0.01, 1.0]), factors, wrong)


def test_one_correction_after_another_is_their_composition() -> None:
    generator = torch.Generator().manual_seed(0)
    sigmas = torch.tensor(SIGMAS)
    first, second = (
        Calibration(sigmas, *(torch.rand(2, 2, 3, 4, generator=generator) + 0.5)) for _ in range(2)
    )
    variance = torch.rand(3, 4, 5, 6, generator=generator)
    reference = torch.rand(1, 4, 1, 1, generator=generator) + 0.1
    for given in (False, True):
        both = second(first(variance, reference, sigmas, given), reference, sigmas, given)
        once = second.after(first)(variance, reference, sigmas, given)
        torch.testing.assert_close(once, both)


def test_it_corrects_what_the_network_reports_and_nothing_else() -> None:
    network = tiny_network(0)
    x, y = 0.1 * torch.ones(2, 4, 128), torch.ones(2, 1, 128)
    sigma = torch.tensor([0.01, 1.0])
    generator = torch.Generator().manual_seed(0)
    factors, exponents = torch.rand(2, 2, 2, 4, generator=generator) + 0.5
    corrections = Calibration(sigma, factors, exponents)
    reference = network.band_variance(sigma).mean((2, 3), keepdim=True)
    for mode in (False, True):
        plain = MixtureDenoiser(network, y if mode else None)
        fitted = MixtureDenoiser(network, calibration=corrections)
        fitted = fitted.given(y) if mode else fitted
        a, b = (d.posterior(x, sigma, "reported") for d in (plain, fitted))
        assert isinstance(a, Posterior)
        assert isinstance(b, Posterior)
        assert torch.equal(a.mean, b.mean)
        f, e = (values[int(mode)][:, :, None, None] for values in (factors, exponents))
        torch.testing.assert_close(b.variance, f * a.variance * (a.variance / reference) ** e)
        a, b = (d.posterior(x, sigma, "band") for d in (plain, fitted))
        assert isinstance(a, Posterior)
        assert isinstance(b, Posterior)
        assert torch.equal(a.variance, b.variance)


def test_the_command_writes_a_calibrated_prior_in_half_precision(
    tiny_prior: Path, tmp_path: Path
) -> None:
    network = load_prior(tiny_prior).network
    assert isinstance(network, TFUNet)
    (tmp_path / "stems" / "a").mkdir(parents=True)
    for stem, wave in zip(STEMS, draws(network, 1, 1023)[0], strict=True):
        write(tmp_path / "stems" / "a" / f"{stem}.wav", wave[None], 22050, subtype="FLOAT")
    stems = str(tmp_path / "stems")
    arguments = ["priors", "calibrate", str(tiny_prior), stems, "--segments", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "--length 131072: the shortest track has 65472 samples" in result.output
    arguments += ["--length", "65472"]
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
    lines = result.output.splitlines()
    assert len(lines) == 16
    for line in lines:
        shown = [float(part.split()[0]) for part in line.split(": ")[1].split("; of the sums ")]
        assert all(abs(value - 1) < 0.02 for value in shown)


def test_a_prior_is_calibrated_in_place(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes what a new folder would hold, or stays as it was."""
    (tmp_path / "stems" / "a").mkdir(parents=True)
    for stem, wave in zip(STEMS, song(1, 4, 2048, 22050), strict=True):
        write(tmp_path / "stems" / "a" / f"{stem}.wav", wave[None], 22050)
    own = tmp_path / "own"
    shutil.copytree(tiny_prior, own)
    (own / "README.md").write_text("mine")
    short = ["--segments", "1", "--length", "2048"]
    arguments = ["priors", "calibrate", str(own), str(tmp_path / "stems"), *short, "-o"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk(1, []))
        result = CliRunner().invoke(main, [*arguments, str(own)])
        assert result.exit_code == 1
        assert "No space left on device" in result.stderr
    names = ("config.json", "model.safetensors")
    assert all((own / n).read_bytes() == (tiny_prior / n).read_bytes() for n in names)
    assert CliRunner().invoke(main, [*arguments, str(tmp_path / "new")]).exit_code == 0
    assert CliRunner().invoke(main, [*arguments, str(own)]).exit_code == 0
    assert all((own / n).read_bytes() == (tmp_path / "new" / n).read_bytes() for n in names)
    assert sorted(p.name for p in own.iterdir()) == ["README.md", *names]
    result = CliRunner().invoke(main, [*arguments, str(tmp_path / "new")])
    assert "new: exists; give a new folder, or the prior's own" in result.stderr


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
    before = at_precision(load_prior(tiny_prior).prior, torch.device("cpu"), "auto")[0].denoiser
    assert isinstance(before, MixtureDenoiser)
    want = calibrate(before, measure_residuals(before, x_0), found.calibration.sigmas.tolist())
    # They pass through decimal text of float32, which is exact.
    assert torch.equal(found.calibration.factors, want.factors)
    assert torch.equal(found.calibration.exponents, want.exponents)


def test_a_damaged_calibration_is_one_line(tiny_prior: Path, tmp_path: Path) -> None:
    loaded = load_prior(tiny_prior)
    keys = ("schedule", "stems", "sample_rate", "mixture_rms", "segment")
    details = {key: loaded.config[key] for key in keys} | {"calibration": {"sigmas": [1.0]}}
    save_prior(tmp_path / "bad", loaded.network, TINY, "tf_unet", details)
    with pytest.raises(UserError, match="lacks 'factors'"):
        load_prior(tmp_path / "bad")
