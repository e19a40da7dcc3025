"""DInG: its transition against dense Gaussian conditioning, and the prior's transition under it."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, NoiseSchedule, Prior, bridge
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import (
    GaussianLikelihood,
    KnownSources,
    LinearOperator,
    Mask,
    MixtureSum,
    Operator,
    Stacked,
)
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.samplers import DInG, ding

SCHEDULE = NoiseSchedule.karras()
SOURCES, TIME = 3, 2
SIZE = SOURCES * TIME
LAWS: list[Literal["decaying", "bridge"]] = ["decaying", "bridge"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return randn(shape, generator=generator_for(seed), dtype=torch.float64)


class Dense(LinearOperator):
    """An operator with nothing but its adjoint: two numbers of each event."""

    matrix = normal(2, SIZE, seed=7)

    def __call__(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix.T.to(x))[:, None]

    def adjoint(self, y: Tensor) -> Tensor:
        return (y[:, 0] @ self.matrix.to(y)).reshape(-1, SOURCES, TIME)


OPERATORS = {
    "sum": MixtureSum(SOURCES),
    "weighted": MixtureSum(SOURCES, (1.0, -0.5, 2.0)),
    "mask": Mask(torch.tensor([[True, False], [True, True], [False, False]])),
    "stacked": Stacked([MixtureSum(SOURCES), KnownSources([1], SOURCES)]),
    "dense": Dense(),
}
each = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def prior() -> Prior:
    return Prior(lambda x, sigma: 0.3 * x, SCHEDULE, (SOURCES, TIME))  # type: ignore


def draw(
    operator: LinearOperator,
    noise: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    s: int,
    std: float,
    noise_std: float = 0.2,
) -> tuple[Tensor, GaussianLikelihood, Tensor, Tensor]:
    """x_s for the given noise of the state and of the observation, its likelihood, m and eps."""
    left = list(noise)
    monkeypatch.setattr(ding, "randn_like", lambda x, generator: left.pop(0))
    n = len(noise[0])
    mean, eps = (normal(1, SOURCES, TIME, seed=k).expand(n, -1, -1) for k in (1, 2))
    y = operator(normal(1, SOURCES, TIME, seed=3)).expand(n, -1, -1)
    likelihood = GaussianLikelihood(operator, y, noise_std)
    x_s = DInG()._posterior(prior(), operator, likelihood, mean, std, eps, s, generator_for(0))
    assert not left
    return x_s, likelihood, mean, eps


@each
@pytest.mark.parametrize(("s", "std"), [(600, 0.4), (100, 0.01)])
def test_a_transition_is_gaussian_conditioning(
    operator: LinearOperator, monkeypatch: pytest.MonkeyPatch, s: int, std: float
) -> None:
    """Mean and covariance, both exact: x_s is affine in its noise, which is fed unit vectors."""
    observed = operator(torch.zeros(1, SOURCES, TIME).double()).shape[1:]
    m = observed.numel()
    units = torch.eye(SIZE + m, dtype=torch.float64)
    units = torch.cat([torch.zeros(1, SIZE + m).double(), units])
    noise = (units[:, :SIZE].reshape(-1, SOURCES, TIME), units[:, SIZE:].reshape(-1, *observed))
    x_s, likelihood, mean, eps = draw(operator, noise, monkeypatch, s, std)

    alpha, sigma = float(SCHEDULE.alpha[s]), float(SCHEDULE.sigma[s])
    a = operator(torch.eye(SIZE).double().reshape(-1, SOURCES, TIME)).flatten(1).T
    seen = (alpha * likelihood.y[0] + sigma * operator(eps)[0]).flatten()
    precision = torch.eye(SIZE).double() / std**2 + a.T @ a / (alpha * likelihood.noise_std) ** 2
    covariance = torch.linalg.inv(precision)
    pulled = mean[0].flatten() / std**2 + a.T @ seen / (alpha * likelihood.noise_std) ** 2
    torch.testing.assert_close(x_s[0].flatten(), covariance @ pulled, rtol=0, atol=1e-9)
    root = (x_s[1:] - x_s[:1]).flatten(1)  # its rows: what each unit of noise does
    # 1e-9 is rounding; the covariance itself is 1e-5 or more in every direction.
    torch.testing.assert_close(root.T @ root, covariance, rtol=1e-9, atol=1e-12)


def test_for_a_sum_every_source_takes_an_equal_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """v / (K v + (alpha sigma_y)^2) of alpha y + sigma sum eps_k + alpha sigma_y xi - sum x_k."""
    s, std = 400, 0.2
    noise = normal(2, SOURCES, TIME, seed=4), normal(2, 1, TIME, seed=5)
    x_s, likelihood, mean, eps = draw(OPERATORS["sum"], noise, monkeypatch, s, std)
    alpha, sigma = float(SCHEDULE.alpha[s]), float(SCHEDULE.sigma[s])
    x = mean + std * noise[0]
    gap = alpha * likelihood.y + sigma * eps.sum(1, keepdim=True) - x.sum(1, keepdim=True)
    gap = gap + alpha * likelihood.noise_std * noise[1]
    share = std**2 / (SOURCES * std**2 + (alpha * likelihood.noise_std) ** 2)
    torch.testing.assert_close(x_s, x + share * gap)


@pytest.mark.parametrize("noise", LAWS)
@pytest.mark.parametrize(("s", "t"), [(1, 2), (300, 340), (900, 999)])
def test_the_prior_s_transition_keeps_the_marginal(
    noise: Literal["decaying", "bridge"], s: int, t: int
) -> None:
    """x_t = alpha_t x_0 + sigma_t eps leads to x_s of mean alpha_s x_0 and variance sigma_s^2."""
    alpha, sigma = SCHEDULE.alpha, SCHEDULE.sigma
    x_0, x_t = torch.tensor([1.0, 0.0]).double(), torch.stack([alpha[t], sigma[t]])
    mean, std = DInG(noise=noise)._transition(prior(), x_0, x_t, s, t)
    assert float(mean[0]) == pytest.approx(float(alpha[s]), rel=1e-12)
    assert float(mean[1]) ** 2 + std**2 == pytest.approx(float(sigma[s]) ** 2, rel=1e-12)
    want = {
        "decaying": float(sigma[s] * (1 - alpha[s])),
        "bridge": float(bridge(SCHEDULE, 0, s, t).std),
    }
    # 1 - alpha is 1e-7 at the lowest level: nine digits are left of it.
    assert std == pytest.approx(want[noise], rel=1e-8)


@pytest.mark.parametrize("noise", LAWS)
def test_it_costs_two_calls_a_step_and_no_gradient(noise: Literal["decaying", "bridge"]) -> None:
    counter = CallCounter(prior().denoiser)
    likelihood = GaussianLikelihood(MixtureSum(SOURCES), normal(2, 1, TIME), 1e-4)
    DInG(noise=noise).sample(
        Prior(counter, SCHEDULE, (SOURCES, TIME)), likelihood, generator=generator_for(0)
    )
    assert (counter.forward, counter.gradient) == (49, 0)


def test_the_proxy_is_drawn_beside_the_state() -> None:
    """The noise is looked up at the level arrived at, in a draw that x_s does not share."""
    seen: list[tuple[float, Tensor]] = []

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append((float(sigma), x))
        return 0.3 * x

    likelihood = GaussianLikelihood(MixtureSum(SOURCES), normal(2, 1, TIME), 1e9)  # unguided
    spied = Prior(denoiser, SCHEDULE, (SOURCES, TIME))
    DInG(num_steps=4, noise="bridge").sample(spied, likelihood, generator=generator_for(0))
    grid = SCHEDULE.timesteps(5)
    levels = [float(SCHEDULE.noise_level[t]) for t in (*grid[:0:-1],)]
    want = [levels[0], levels[1], levels[1], levels[2], levels[2], levels[3], levels[3]]
    assert [sigma for sigma, _ in seen] == pytest.approx(want)
    for (_, z_s), (_, x_s) in zip(seen[1::2], seen[2::2], strict=True):
        assert float((z_s - x_s).abs().min()) > 0


def test_it_takes_a_step_at_least() -> None:
    with pytest.raises(ValueError, match="num_steps = 0"):
        DInG(num_steps=0)


def test_it_needs_a_linear_operator() -> None:
    class Square(Operator):
        def __call__(self, x: Tensor) -> Tensor:
            return x**2

    likelihood = GaussianLikelihood(Square(), normal(1, SOURCES, TIME), 0.1)
    with pytest.raises(PairingError, match="DInG needs a LinearOperator, got Square"):
        DInG().sample(prior(), likelihood, generator=generator_for(0))
