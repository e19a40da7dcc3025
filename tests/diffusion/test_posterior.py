"""The Gaussian approximation of p(x_0 | x_t): where its mean and its variance come from."""

import torch
from torch import Tensor

from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.diffusion.counting import counted
from mgdm_audio.diffusion.posterior import (
    Calibration,
    Covariance,
    Identity,
    MixtureDenoiser,
    isotropic,
)
from tests.toys import tiny_network

SCHEDULE = NoiseSchedule.karras()


def normal(*shape: int, seed: int = 0, std: float = 0.1) -> Tensor:
    return std * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_isotropic_takes_any_denoiser() -> None:
    denoiser = GaussianDenoiser(torch.diag(torch.linspace(0.5, 2, 12)))
    x, sigma = normal(2, 3, 4), torch.tensor([0.5, 2.0])
    posterior = isotropic(denoiser, x, sigma)
    assert torch.equal(posterior.mean, denoiser(x, sigma))
    # sigma^2 / (1 + sigma^2) = .25 / 1.25 and 4 / 5
    torch.testing.assert_close(posterior.variance, torch.tensor([0.2, 0.8]).view(2, 1, 1))
    assert isotropic(denoiser, x, sigma[0]).variance.item() == posterior.variance[0].item()
    assert isinstance(posterior.transform, Identity)
    assert posterior.transform.analysis(x) is x
    assert posterior.transform.synthesis(x, 4) is x


def test_isotropic_is_exact_for_a_prior_of_unit_variance() -> None:
    # Whose posterior covariance is (I + I / sigma^2)^-1.
    sigma = torch.tensor(0.7)
    posterior = isotropic(GaussianDenoiser(torch.eye(4)), normal(1, 2, 2), sigma)
    assert abs(posterior.variance.item() - 1 / (1 + 1 / 0.7**2)) < 1e-7


def test_each_covariance_comes_from_its_place() -> None:
    network = tiny_network(0)
    denoiser = MixtureDenoiser(network)
    x, sigma = normal(2, 4, 200), torch.tensor(0.1)
    mean, reported = network.posterior(x, sigma)
    posteriors = {kind: denoiser.posterior(x, sigma, kind) for kind in ("isotropic", "band")}
    posteriors["reported"] = denoiser.posterior(x, sigma, "reported")
    assert torch.equal(denoiser(x, sigma), mean)
    for posterior in posteriors.values():
        assert torch.equal(posterior.mean, mean)
    assert isinstance(posteriors["isotropic"].transform, Identity)
    assert posteriors["band"].transform is network
    assert posteriors["reported"].transform is network
    assert torch.equal(posteriors["reported"].variance, reported)
    assert torch.equal(posteriors["band"].variance, network.band_variance(sigma))


def test_untrained_the_network_reports_its_band_variance() -> None:
    denoiser = MixtureDenoiser(tiny_network(0, trained=False))
    x, sigma = normal(2, 4, 200), torch.tensor([0.02, 3.0])
    band = denoiser.posterior(x, sigma, "band").variance
    reported = denoiser.posterior(x, sigma, "reported").variance
    torch.testing.assert_close(reported, band.expand_as(reported), rtol=1e-5, atol=0)


def test_given_shows_the_network_the_mixture() -> None:
    network = tiny_network(0)
    denoiser = MixtureDenoiser(network)
    x, y, sigma = normal(2, 4, 200), normal(2, 1, 200, seed=1), torch.tensor(0.1)
    given = denoiser.given(y)
    assert torch.equal(given(x, sigma), network(x, sigma, y))
    assert torch.equal(given.posterior(x, sigma, "isotropic").mean, network(x, sigma, y))
    mean, variance = network.posterior(x, sigma, y)
    assert torch.equal(given.posterior(x, sigma, "reported").mean, mean)
    assert torch.equal(given.posterior(x, sigma, "reported").variance, variance)
    assert torch.equal(denoiser(x, sigma), network(x, sigma))  # and itself it does not change


def test_counting_sees_every_call_and_changes_none() -> None:
    values = torch.linspace(0.2, 3, 8).view(2, 1, 4)
    factors = Calibration(torch.tensor([0.1]), values, values - 0.5)
    prior = Prior(MixtureDenoiser(tiny_network(0), calibration=factors), SCHEDULE, (4, 200))
    same, calls = counted(prior)
    x, y, sigma = normal(2, 4, 200), normal(2, 1, 200, seed=1), torch.tensor(0.1)
    assert isinstance(same.denoiser, MixtureDenoiser)
    assert isinstance(prior.denoiser, MixtureDenoiser)
    assert torch.equal(same.predict_x0(x, 500), prior.predict_x0(x, 500))
    assert (calls.forward, calls.gradient) == (1, 0)
    kinds: tuple[Covariance, ...] = ("isotropic", "band", "reported")
    for kind in kinds:
        a, b = (d.posterior(x, sigma, kind) for d in (same.denoiser, prior.denoiser))
        assert torch.equal(a.mean, b.mean)
        assert torch.equal(a.variance, b.variance)
    assert (calls.forward, calls.gradient) == (4, 0)
    same.denoiser.given(y)(x, sigma)
    assert (calls.forward, calls.gradient) == (5, 0)
    same.predict_x0(x.requires_grad_(), 500).sum().backward()
    assert (calls.forward, calls.gradient) == (5, 1)
    assert (same.schedule, same.event_shape) == (prior.schedule, prior.event_shape)


def test_counting_any_other_denoiser() -> None:
    prior = Prior(GaussianDenoiser(torch.eye(6)), SCHEDULE, (2, 3))
    same, calls = counted(prior)
    x = normal(1, 2, 3)
    assert torch.equal(same.predict_x0(x, 10), prior.predict_x0(x, 10))
    assert torch.equal(same.with_event_shape((3, 2)).predict_x0(x, 10), prior.predict_x0(x, 10))
    assert (calls.forward, calls.gradient) == (2, 0)
