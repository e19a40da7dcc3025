"""The kernel on a quadratic, where unadjusted Langevin is an exact linear recursion."""

import pytest
import torch
from torch import Tensor

from mgdm_audio.measurement import GaussianLikelihood, MixtureSum, Operator
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.samplers import langevin as kernel
from mgdm_audio.samplers.base import likelihood_gradient
from mgdm_audio.samplers.langevin import langevin

SOURCES, TIME, DRAWS = 4, 8, 3000


class Cube(Operator):
    def __call__(self, x: Tensor) -> Tensor:
        return x**3


def normal(*shape: int, seed: int) -> Tensor:
    return randn(shape, generator=generator_for(seed), dtype=torch.float64)


@pytest.mark.parametrize(("num_steps", "weight"), [(1, 1.0), (4, 0.3), (160, 1.0), (160, 0.3)])
def test_its_law_follows_the_recursion_to_the_closed_form(num_steps: int, weight: float) -> None:
    """Sources summed: curvature w K / sigma_y^2 + 1 / std^2 along the mean, 1 / std^2 across."""
    noise_std, std, step_size = 0.5, 0.7, 0.08
    y, centre = normal(1, 1, TIME, seed=0), normal(1, SOURCES, TIME, seed=1)
    likelihood = GaussianLikelihood(MixtureSum(SOURCES), y.expand(DRAWS, -1, -1), noise_std)
    x = langevin(
        likelihood,
        centre.expand(DRAWS, -1, -1),
        std,
        step_size=step_size,
        num_steps=num_steps,
        generator=generator_for(2),
        weight=weight,
    )
    basis = torch.linalg.qr(torch.cat([torch.ones(SOURCES, 1), torch.eye(SOURCES)[:, 1:]], 1)).Q
    basis = (basis * basis[:1].sign()).double()  # its first column is 1 / sqrt(K)
    z, start = torch.einsum("ks,bkt->sbt", basis, x), basis.T @ centre[0]
    pull = weight / noise_std**2
    curvature = torch.tensor([pull * SOURCES, 0, 0, 0]).double()[:, None] + 1 / std**2
    mode = start / std**2
    mode[0] += pull * SOURCES**0.5 * y[0, 0]
    mode = mode / curvature
    factor = 1 - step_size * curvature
    mean = mode + factor**num_steps * (start - mode)
    variance = 2 * step_size * (1 - factor ** (2 * num_steps)) / (1 - factor**2)
    # 32 means and variances: 4.5 standard errors each.
    assert float(((z.mean(1) - mean) / variance.sqrt()).abs().max()) < 4.5 / DRAWS**0.5
    assert float((z.var(1) / variance - 1).abs().max()) < 4.5 * (2 / DRAWS) ** 0.5
    if num_steps == 160:  # the start is forgotten: the slowest factor is .84
        stationary = 1 / curvature / (1 - step_size * curvature / 2)
        torch.testing.assert_close(variance, stationary, rtol=1e-12, atol=0)
        torch.testing.assert_close(mean, mode, rtol=1e-12, atol=1e-12)
        assert weight < 1 or float((variance * curvature)[0]) > 3  # far from the exact 1


def test_any_operator_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "randn_like", lambda x, generator: torch.zeros_like(x))
    y, centre = normal(3, 2, 5, seed=0), normal(3, 2, 5, seed=1)
    likelihood = GaussianLikelihood(Cube(), y, 2.0)
    x = centre
    for _ in range(3):
        score = (y - x**3) * 3 * x**2 / 2.0**2
        torch.testing.assert_close(likelihood_gradient(likelihood, x), score)
        x = x + 0.01 * (0.5 * score + (centre - x) / 0.3**2)
    options = {"step_size": 0.01, "num_steps": 3, "generator": generator_for(2), "weight": 0.5}
    found = langevin(likelihood, centre, 0.3, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)
    assert not found.requires_grad


def test_a_diverging_item_leaves_its_neighbours_and_the_start_alone() -> None:
    """The cube's curvature grows with x: the step that suits item 0 throws item 1 to infinity."""
    centre = torch.tensor([[1.0], [100.0]])
    likelihood = GaussianLikelihood(Cube(), torch.ones(2, 1), 1.0)
    x = langevin(
        likelihood,
        centre,
        1.0,
        step_size=0.01,
        num_steps=20,
        generator=[generator_for(0), generator_for(1)],
    )
    alone = langevin(
        GaussianLikelihood(Cube(), torch.ones(1, 1), 1.0),
        centre[:1],
        1.0,
        step_size=0.01,
        num_steps=20,
        generator=[generator_for(0)],
    )
    assert torch.equal(x[:1], alone)
    assert not bool(x[1].isfinite())
    assert centre.tolist() == [[1.0], [100.0]]
