"""A small separation problem whose prior is Gaussian, so that every answer is known."""

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum

SOURCES, TIME = 4, 8


@pytest.fixture(scope="session")
def covariance() -> Tensor:
    """Correlated over sources and time, rms .1."""
    n = SOURCES * TIME
    root = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 0.01 * root @ root.T / n


@pytest.fixture
def prior(covariance: Tensor) -> Prior:
    return Prior(GaussianDenoiser(covariance), NoiseSchedule.karras(), (SOURCES, TIME))


@pytest.fixture
def likelihood() -> GaussianLikelihood:
    """Three mixtures; sigma_y = .01."""
    generator = torch.Generator().manual_seed(1)
    y = 0.2 * torch.randn(3, 1, TIME, generator=generator, dtype=torch.float64)
    return GaussianLikelihood(MixtureSum(SOURCES), y, 0.01)
