"""Latent priors whose answers are known: a linear codec, and an autoencoder that is trained."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum

Shape = tuple[int, ...]


class LinearCodec:
    """``decode(z) = Q z`` and ``encode(x) = Q^T x``, ``Q: [n, m]`` with orthonormal columns.

    With ``latent_shape = event_shape`` it is a change of basis and undoes itself exactly.
    """

    def __init__(self, event_shape: Shape, latent_shape: Shape) -> None:
        self.event_shape, self.latent_shape = event_shape, latent_shape
        n, m = torch.Size(event_shape).numel(), torch.Size(latent_shape).numel()
        root = torch.randn(n, n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        self.q = torch.linalg.qr(root).Q[:, :m]

    def encode(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.q.to(x)).unflatten(1, self.latent_shape)

    def decode(self, z: Tensor) -> Tensor:
        return (z.flatten(1) @ self.q.T.to(z)).unflatten(1, self.event_shape)


class Autoencoder(nn.Module):
    """Two layers each way, without biases: odd, so that a centred event has a centred latent."""

    def __init__(self, event_shape: Shape, latents: int, hidden: int = 32) -> None:
        super().__init__()
        n = torch.Size(event_shape).numel()
        self.event_shape = event_shape
        self.encoder = nn.Sequential(
            nn.Linear(n, hidden, bias=False), nn.Tanh(), nn.Linear(hidden, latents, bias=False)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latents, hidden, bias=False), nn.Tanh(), nn.Linear(hidden, n, bias=False)
        )

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x.flatten(1))
        return z

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self.decoder(z)
        return x.unflatten(1, self.event_shape)


@dataclass(frozen=True)
class Problem:
    """Mixtures of low-rank Gaussian sources, under a latent prior that was learnt from draws."""

    prior: Prior
    likelihood: GaussianLikelihood
    x: Tensor  # [batch, sources, time], the events behind likelihood.y
    exact: float  # squared error of exact posterior draws, relative to that of the prior's mean

    def error(self, x: Tensor) -> float:
        """Squared error, relative to that of the prior's mean, which is 0."""
        return float((x - self.x).square().sum() / self.x.square().sum())


@functools.cache
def learnt_problem() -> Problem:
    """3 sources of 8 samples with 5 degrees of freedom, rms .1; 64 mixtures, sigma_y = .01.

    The latents are Gaussian up to the autoencoder's curvature: their prior is that of the
    covariance which draws show. A mixture of 8 samples tells 5 latents: the posterior is narrow.
    """
    shape, latents, double = (3, 8), 5, torch.float64
    generator = torch.Generator().manual_seed(3)
    loading = 0.1 * torch.randn(24, latents, generator=generator, dtype=double) / latents**0.5
    training = torch.randn(4096, latents, generator=generator, dtype=double) @ loading.T
    network = _trained(training.unflatten(1, shape), latents)
    z = network.encode(training)
    prior = Prior(GaussianDenoiser(z.T @ z / len(z)), NoiseSchedule.karras(), (latents,), network)
    operator, noise_std = MixtureSum(shape[0]), 0.01
    x = torch.randn(64, latents, generator=generator, dtype=double) @ loading.T
    x = x.unflatten(1, shape)
    y = operator(x)
    y = y + noise_std * torch.randn(y.shape, generator=generator, dtype=double)
    a = operator(loading.T.unflatten(1, shape)).flatten(1).T  # [time, latents]
    precision = torch.eye(latents, dtype=double) + a.T @ a / noise_std**2
    spread = torch.trace(loading @ torch.linalg.solve(precision, loading.T))
    exact = float(2 * spread / loading.square().sum())
    return Problem(prior, GaussianLikelihood(operator, y, noise_std), x, exact)


def _trained(x: Tensor, latents: int) -> Autoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Autoencoder(tuple(x.shape[1:]), latents).double()
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8 * 64)
    for batch in [*x.split(64)] * 8:
        loss = (network.decode(network.encode(batch)) - batch).square().mean() / x.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.requires_grad_(False)
