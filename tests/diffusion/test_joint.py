"""Independent priors as one: the joined denoiser is exact where the sources are independent."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior, join

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
