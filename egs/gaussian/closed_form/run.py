#!/usr/bin/env python3
"""Every sampler where the posterior is known: a Gaussian prior over K = 4 sources of 16 samples.

Prints for each the relative error of the posterior mean, the sliced Wasserstein distance to exact
draws, the residual over sigma_y (ideally 1), the denoiser calls and the published row with its
settings. MGDM comes as published, with the denoiser's covariance in its likelihood, and
with all three Gibbs conditionals drawn exactly, under the paper's potential g(y | D(x_s)) and under
the true p(y | x_s), which adds the denoiser's uncertainty Cov(x_0 | x_s) to the observation noise.

    python egs/gaussian/closed_form/run.py --draws 512 --seeds 3 [--only DDNM] [--prior smooth]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mgdm_audio import tables
from mgdm_audio.diffusion import CallCounter, GaussianDenoiser, NoiseSchedule, Prior, bridge
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import Generators, generator_for, randn, randn_like
from mgdm_audio.samplers import MGDM, CovarianceMGDM, PerStep
from mgdm_audio.tensors import per_item

sys.path.append(str(Path(__file__).resolve().parents[1] / "local"))
from sampler_rows import (
    ONLY,
    Row,
    chosen,
    draw,
    latent,
    mgdm,
    pattern,
    published,
    spread,
)

SOURCES, TIME, NOISE_STD = 4, 16, 0.01
SIZE = SOURCES * TIME
SWEEPS = (1, 2, 4, 6, 8)  # R


@dataclass(frozen=True)
class Problem:
    """One observation of one draw from the prior, and what follows from it in closed form."""

    prior: Prior
    y: Tensor  # [1, 1, TIME]
    mean: Tensor  # [SIZE], of the posterior
    covariance: Tensor  # [SIZE, SIZE], of the posterior


def falling(generator: torch.Generator) -> Tensor:
    """Random orthonormal eigenvectors, eigenvalues falling by 100."""
    basis, _ = torch.linalg.qr(randn((SIZE, SIZE), generator=generator, dtype=torch.float64))
    return (basis * torch.logspace(0, -2, SIZE, dtype=torch.float64)) @ basis.T


def smooth(generator: torch.Generator) -> Tensor:
    """A Gaussian kernel of deviation 2 samples in time; any two sources are correlated by .5."""
    lag = torch.arange(TIME).double()[:, None] - torch.arange(TIME)
    kernel = torch.exp(-(lag**2) / (2 * 2**2)) + 1e-3 * torch.eye(TIME)
    return torch.kron((torch.ones(SOURCES, SOURCES) + torch.eye(SOURCES)) / 2, kernel)


def wishart(generator: torch.Generator) -> Tensor:
    """R R^T for a square R of standard normal entries."""
    root = randn((SIZE, SIZE), generator=generator, dtype=torch.float64)
    return root @ root.T


PRIORS = {"falling": falling, "smooth": smooth, "wishart": wishart}


def make_problem(seed: int = 0, rms: float = 0.1, prior: str = "falling") -> Problem:
    """One of ``PRIORS``, N(0, C), C scaled to that rms, and an observation of a draw from it."""
    generator = generator_for(seed, "problem")
    c = PRIORS[prior](generator)
    c = c * rms**2 / c.diag().mean()
    x = torch.linalg.cholesky(c) @ randn((SIZE,), generator=generator, dtype=torch.float64)
    noise = NOISE_STD * randn((1, 1, TIME), generator=generator, dtype=torch.float64)
    y = MixtureSum(SOURCES)(x.reshape(1, SOURCES, TIME)) + noise
    a = torch.kron(torch.ones(1, SOURCES), torch.eye(TIME)).double()
    gain = torch.linalg.solve(a @ c @ a.T + NOISE_STD**2 * torch.eye(TIME).double(), a @ c).T
    model = Prior(GaussianDenoiser(c), NoiseSchedule.karras(), (SOURCES, TIME))
    return Problem(model, y, gain @ y.flatten(), c - gain @ a @ c)


class Score(NamedTuple):
    """How far the draws of one sampler are from the posterior."""

    mean: float  # |mean of the draws - posterior mean| / |posterior mean|
    wasserstein: float  # sliced, to exact draws
    residual: float  # rms of y - A x over sigma_y
    forward: int  # denoiser calls
    gradient: int


def measure(problem: Problem, row: Row, draws: int, seed: int) -> Score:
    """The score of ``draws`` draws."""
    y = problem.y.expand(draws, -1, -1)
    x, counter = draw(row, problem.prior, y, NOISE_STD, generator_for(seed, "draws"))
    exact = draw(Row(Exact(problem)), problem.prior, y, NOISE_STD, generator_for(seed, "exact"))[0]
    error = (x.flatten(1).mean(0) - problem.mean).norm() / problem.mean.norm()
    residual = (y - MixtureSum(SOURCES)(x)).square().mean().sqrt() / NOISE_STD
    distance = sliced_wasserstein(x.flatten(1), exact.flatten(1))
    return Score(float(error), distance, float(residual), counter.forward, counter.gradient)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 256) -> float:
    """The mean over directions of the Wasserstein-1 distance of two clouds [n, size]."""
    generator = generator_for(0, "directions")
    w = randn((a.shape[1], directions), generator=generator, dtype=a.dtype)
    w = w / w.norm(dim=0)
    return float(((a @ w).sort(0).values - (b @ w).sort(0).values).abs().mean())


@dataclass(frozen=True)
class Exact:
    """Draws from the posterior itself: the floor that the number of draws sets."""

    problem: Problem

    def sample(
        self, prior: Prior, likelihood: GaussianLikelihood, *, generator: Generators
    ) -> Tensor:
        root = torch.linalg.cholesky(self.problem.covariance)
        noise = randn((len(likelihood.y), SIZE), generator=generator, dtype=torch.float64)
        return (self.problem.mean + noise @ root.T).reshape(-1, SOURCES, TIME)


@dataclass(frozen=True)
class ExactGibbs(MGDM):
    """MGDM with conditionals (a) and (b) drawn exactly, which a Gaussian prior allows.

    ``uncertainty``: 0 is the paper's potential N(y; A D(x_s), sigma_y^2), 1 the true likelihood of
    x_s, N(y; A D(x_s), sigma_y^2 + A Cov(x_0 | x_s) A^T).
    """

    uncertainty: float = 1.0

    def _fit_and_draw(self, prior, likelihood, x_0, x_t, s, t, k, generator):  # type: ignore
        kernel = bridge(prior.schedule, 0, s, t)
        mean, std = kernel.mean(x_0, x_t).flatten(1), torch.as_tensor(kernel.std)
        p, covariance = self._observed(prior, s)
        y = likelihood.y.flatten(1)
        noise = NOISE_STD**2 * torch.eye(TIME).double() + self.uncertainty * covariance
        # Perturb and solve: a draw of (x_s, y), then its correction by the y observed.
        x_s = mean + per_item(std, mean) * randn_like(mean, generator)
        root = torch.linalg.cholesky(noise)
        y_s = torch.einsum("bij,bj->bi", p, x_s)
        y_s = y_s + torch.einsum("bij,bj->bi", root, randn_like(y, generator))
        variance = std[:, None, None] ** 2
        innovation = torch.linalg.solve(variance * p @ p.mT + noise, y - y_s)
        x_s = x_s + variance[:, 0] * torch.einsum("bij,bi->bj", p, innovation)
        return x_s.reshape(x_0.shape)

    def _denoise(self, prior, x_s, s, generator):  # type: ignore
        scale = self._posterior_variances(prior, s).sqrt()
        noise = (randn_like(x_s, generator).flatten(1) * scale) @ gaussian(prior).basis.T
        return prior.predict_x0(x_s, s) + noise.reshape(x_s.shape)

    def _posterior_variances(self, prior: Prior, s: Tensor) -> Tensor:
        """Eigenvalues of Cov(x_0 | x_s): [batch, SIZE]."""
        c, noise = gaussian(prior).variances, prior.schedule.noise_level[s][:, None] ** 2
        return c * noise / (c + noise)

    def _observed(self, prior: Prior, s: Tensor) -> tuple[Tensor, Tensor]:
        """A D_s: [batch, TIME, SIZE], and A Cov(x_0 | x_s) A^T: [batch, TIME, TIME]."""
        denoiser = gaussian(prior)
        a = torch.kron(torch.ones(1, SOURCES), torch.eye(TIME)).double() @ denoiser.basis
        remaining = self._posterior_variances(prior, s)
        gain = remaining / prior.schedule.noise_level[s][:, None] ** 2
        p = (a * gain[:, None]) @ denoiser.basis.T / prior.schedule.alpha[s][:, None, None]
        return p, (a * remaining[:, None]) @ a.T


def gaussian(prior: Prior) -> GaussianDenoiser:
    """The denoiser behind the counter."""
    assert isinstance(prior.denoiser, CallCounter)
    denoiser: GaussianDenoiser = prior.denoiser.denoiser
    return denoiser


class Rotation:
    """A codec that changes the basis, so that the latent samplers too have a known answer."""

    def __init__(self) -> None:
        square = randn((SIZE, SIZE), generator=generator_for(0, "codec"), dtype=torch.float64)
        self.basis = torch.linalg.qr(square).Q

    def encode(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.basis).reshape(x.shape)

    def decode(self, z: Tensor) -> Tensor:
        return (z.flatten(1) @ self.basis.T).reshape(z.shape)


def samplers(problem: Problem) -> dict[str, Row]:
    """Label -> row."""
    rows = {"exact draws": Row(Exact(problem))} | published()
    codec, c = Rotation(), problem.prior.denoiser.covariance
    denoiser = GaussianDenoiser(codec.basis.T @ c @ codec.basis)
    rows |= latent("rotated latents", replace(problem.prior, denoiser=denoiser, codec=codec))
    rows |= mgdm(SWEEPS)
    covariant = CovarianceMGDM(num_steps=50, covariance="reported", project=True)
    for r in SWEEPS:
        sampler = replace(covariant, gibbs_steps=r)
        rows[f"MGDM with covariance, K = 50, R = {r}"] = Row(sampler)
    for r in (1, 4):
        sampler = replace(covariant, gibbs_steps=r, covariance="jacobian")
        rows[f"the same by Jacobian products, R = {r}"] = Row(sampler)
    variational = replace(covariant, gauss_step="variational", vi_steps=PerStep(20))
    for r in (1, 4):
        sampler = replace(variational, gibbs_steps=r)
        rows[f"the same by the variational step, G = 20, R = {r}"] = Row(sampler)
    for uncertainty, name in ((0.0, "g(y | D(x_s))"), (1.0, "p(y | x_s)")):
        for r in SWEEPS:
            sampler = ExactGibbs(
                gibbs_steps=r,
                threshold=0.35,
                noising="bridge",
                outer="code",
                uncertainty=uncertainty,
            )
            rows[f"exact conditionals under {name}, R = {r}"] = Row(sampler)
    return rows


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3, help="problems, each with its own draws")
    parser.add_argument("--rms", type=float, default=0.1, help="of a source; a mixture has twice")
    parser.add_argument("--prior", choices=PRIORS, default="falling", help="how it correlates")
    parser.add_argument("--only", type=pattern, default="", help=ONLY)
    arguments = parser.parse_args()
    heads = ["sampler", "mean", "SW", "residual", "calls forward / gradient", "published row"]
    print(tables.head(heads, "llllll"))
    problems = [
        make_problem(seed, arguments.rms, arguments.prior) for seed in range(arguments.seeds)
    ]
    rows_of = [samplers(problem) for problem in problems]
    for name in chosen(rows_of[0], arguments.only):
        scores = [
            measure(problem, rows[name], arguments.draws, seed)
            for seed, (problem, rows) in enumerate(zip(problems, rows_of, strict=True))
        ]
        mean, distance, residual = (
            spread([score[i] for score in scores], digits) for i, digits in ((0, 3), (1, 4), (2, 2))
        )
        calls = f"{scores[0].forward} / {scores[0].gradient}"
        line = [name, mean, distance, residual, calls, rows_of[0][name].stands_for]
        print(tables.row(line), flush=True)


if __name__ == "__main__":
    main()
