"""The probe of a denoiser off its training states, where the answer is known."""

from pathlib import Path

import pytest
import soundfile
import torch
from click.testing import CliRunner
from torch import Tensor

from mgdm_audio.cli.main import main
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.probe import (
    BINS,
    KINDS,
    LEVELS,
    SIGMAS,
    LocalGaussian,
    perturbations,
    probe,
)
from tests.toys import STEMS


def stems(examples: int = 2, seed: int = 0) -> Tensor:
    scale = torch.tensor([0.2, 0.05, 0.02, 0.1])[:, None]
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(examples, 4, 4 * BINS, generator=generator)


@pytest.mark.parametrize("gain", [1.0, 0.25, 1.5])
def test_a_linear_denoiser_keeps_its_gain(gain: float) -> None:
    kept = probe(lambda x, sigma: gain * x, stems())
    # Float32 differences of waveforms up to 10 sigma, at 1e-7 each.
    assert (kept.prior - gain).abs().max() < 1e-4


def test_the_exact_prior_is_the_wiener_filter_of_its_variances() -> None:
    """White stems of one level s: every gain tends to s^2 / (s^2 + sigma^2)."""
    x_0 = 0.1 * torch.randn(3, 4, 32 * BINS, generator=torch.Generator().manual_seed(0))
    kept = probe(lambda x, sigma: x, x_0)
    sigma = torch.tensor(SIGMAS)[None, :, None]
    want = (0.01 / (0.01 + sigma**2)).expand_as(kept.exact)
    # A variance of nine coefficients is off by 47 %, and a coefficient of the music moved is among
    # the nine, so that the gain is higher where it is large.
    assert (kept.exact - want).abs().max() < 0.15


def test_the_local_gaussian_denoiser_keeps_its_own_share() -> None:
    x_0 = stems()
    kept = probe(lambda x, sigma: local(x, sigma), x_0[:1].repeat(2, 1, 1))
    assert torch.equal(kept.prior, kept.exact)


def local(x: Tensor, sigma: Tensor) -> Tensor:
    return LocalGaussian(stems()[:1])(x, sigma)


def test_perturbations_sum_to_zero_at_rms_one() -> None:
    x_0 = stems(5)
    for kind in KINDS:
        p = perturbations(x_0, kind)
        assert p.sum(1).abs().max() < 1e-5  # float32 sums of numbers near 1
        rms = p.square().mean(-1).sqrt()
        assert (rms.amax(1) - 1).abs().max() < (1e-5 if kind == "music" else 0.1)
        assert torch.equal(perturbations(x_0[:3], kind)[:2], p[:2])
    p = perturbations(x_0, "music")
    assert ((p.abs().amax(-1) > 0).sum(1) == 2).all()
    # The stems take turns: example i loses its stem i.
    for i in range(5):
        assert (p[i] * x_0[i]).sum(-1).argmin() == i % 4
    resting = x_0.clone()
    resting[0, 0] = 0  # the loudest of the others, stem 3, takes its place
    assert (perturbations(resting, "music")[0] * resting[0]).sum(-1).argmin() == 3


@pytest.mark.parametrize("x_0", [stems()[:, :1], stems()[..., :-1], torch.zeros(2, 4, BINS)])
def test_what_cannot_be_probed_is_refused(x_0: Tensor) -> None:
    with pytest.raises(UserError, match="a probe needs"):
        probe(lambda x, sigma: x, x_0)


def test_verify_prints_a_table(tiny_prior: Path, tmp_path: Path) -> None:
    for song in range(2):
        (tmp_path / f"song{song}").mkdir()
        for name, x in zip(STEMS, stems(1, song)[0].repeat(1, 16), strict=True):
            soundfile.write(tmp_path / f"song{song}" / f"{name}.wav", x.numpy(), 22050)
    arguments = ["priors", "verify", str(tiny_prior), "--probe", str(tmp_path), "--segments", "2"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tiny_prior}: ok")
    assert [line.split(" | ")[0] for line in lines[3:]] == [f"| {sigma:g}" for sigma in SIGMAS]
    assert lines[1].count("sigma") == 1 + len(KINDS) * len(LEVELS)
    refused = CliRunner().invoke(main, [*arguments[:-1], "0"])
    assert refused.exit_code == 1
    assert "--segments is 0" in refused.stderr
