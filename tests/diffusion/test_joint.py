"""Independent priors as one: the joined denoiser is exact where the sources are independent."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior, join
from mgdm_audio.diffusion.posterior import Posterior, posterior_of
from mgdm_audio.errors import PairingError

SCHEDULE, TIME = NoiseSchedule.karras(), 5


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def single(seed: int, sources: int = 1) -> Prior:
    root = normal(sources * TIME, sources * TIME, seed=seed)
    return Prior(GaussianDenoiser(root @ root.T), SCHEDULE, (sources, TIME))


@pytest.mark.parametrize("sigma", [torch.tensor(0.3), torch.tensor([0.1, 1.0, 3.0])])
def test_every_source_is_denoised_by_its_own_prior_alone(sigma: Tensor) -> None:
    priors = [single(seed) for seed in (1, 2, 3)]
    joined = join(priors)
    assert joined.event_shape == (3, TIME)
    assert joined.schedule is SCHEDULE
    x = normal(3, 3, TIME)
    x_0 = joined.denoiser(x, sigma)
    for k, prior in enumerate(priors):
        assert torch.equal(x_0[:, k : k + 1], prior.denoiser(x[:, k : k + 1], sigma))


def test_a_source_is_seen_without_its_neighbours() -> None:
    seen = []

    class Recorder:
        def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
            seen.append(tuple(x.shape))
            return x

    prior = Prior(Recorder(), SCHEDULE, (1, TIME))
    join([prior, prior]).predict_x0(normal(4, 2, TIME), 300)
    assert seen == [(4, 1, TIME)] * 2


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1)])
def test_for_gaussian_sources_it_is_the_denoiser_of_the_block_diagonal(
    sizes: tuple[int, ...],
) -> None:
    priors = [single(seed, sources) for seed, sources in enumerate(sizes)]
    blocks = [prior.denoiser.covariance for prior in priors]  # type: ignore[attr-defined]
    c, sigma = torch.block_diag(*blocks), 0.7
    x = normal(2, 3, TIME, seed=9)
    want = x.flatten(1) @ torch.linalg.solve(c + sigma**2 * torch.eye(3 * TIME).double(), c)
    got = join(priors).denoiser(x, torch.tensor(sigma, dtype=torch.float64))
    # The covariance has a condition of 1e3 or so.
    torch.testing.assert_close(got.flatten(1), want, rtol=0, atol=1e-10)


@dataclass(frozen=True)
class Bands:
    """A denoiser that reports a variance per source and bin of an orthonormal transform."""

    variance: Tensor  # [sources, 1, bins]
    basis: Tensor  # [bins, bins]

    def analysis(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.basis.shape[0])) @ self.basis

    def synthesis(self, coefficients: Tensor, time: int) -> Tensor:
        return (coefficients @ self.basis.T).flatten(-2)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x / 2

    def posterior(self, x: Tensor, sigma: Tensor, covariance: str) -> Posterior:
        return Posterior(self(x, sigma), self.variance[None], self)


def bands(seed: int, sources: int, bins: int = 4) -> Prior:
    variance = normal(sources, 1, bins, seed=seed).square()
    basis = torch.linalg.qr(normal(bins, bins)).Q
    return Prior(Bands(variance, basis), SCHEDULE, (sources, 8))


def test_what_the_blocks_report_stands_side_by_side() -> None:
    priors = [bands(1, 1), bands(2, 2)]
    x, sigma = normal(5, 3, 8), torch.tensor(0.3)
    joined = posterior_of(join(priors).denoiser, x, sigma, "reported")
    assert isinstance(joined, Posterior)
    assert joined.separable
    for prior, block in zip(priors, (slice(0, 1), slice(1, 3)), strict=True):
        own = posterior_of(prior.denoiser, x[:, block], sigma, "reported")
        assert torch.equal(joined.mean[:, block], own.mean)
        # The same products of four terms; a matrix product may add them in another order.
        torch.testing.assert_close(
            joined.covariance_product(x)[:, block],
            own.covariance_product(x[:, block]),
            rtol=1e-14,
            atol=1e-14,
        )


@pytest.mark.parametrize("other", [bands(2, 1, bins=8), single(2)])
def test_without_one_transform_there_is_no_joint_report(other: Prior) -> None:
    x = normal(1, 2, 8)
    if other.event_shape[-1] != 8:
        x = x[..., :TIME]
    first = bands(1, 1) if x.shape[-1] == 8 else single(1)
    joined = join([first, replace(other, event_shape=first.event_shape)])
    with pytest.raises(PairingError, match="in one transform"):
        posterior_of(joined.denoiser, x, torch.tensor(0.3), "reported")


def test_an_equal_schedule_need_not_be_the_same_object() -> None:
    other = replace(single(1), schedule=NoiseSchedule.karras())
    assert join([single(0), other]).event_shape == (2, TIME)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schedule": NoiseSchedule.linear()}, "another noise schedule"),
        ({"schedule": NoiseSchedule.karras(num_levels=10)}, "another noise schedule"),
        ({"event_shape": (1, TIME + 1)}, "only the number of sources may differ"),
        ({"codec": object()}, "latent"),
    ],
)
def test_priors_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        join([single(0), replace(single(1), **change)])


def test_there_is_no_prior_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        join([])
