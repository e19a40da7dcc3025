"""Time inside a denoiser: every call, every backward pass, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import (
    CallCounter,
    GaussianDenoiser,
    NoiseSchedule,
    Posterior,
    Prior,
    counted,
    denoiser,
)
from mgdm_audio.diffusion.posterior import Identity
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.samplers import DPS, WienerGuidance

SIGMA = torch.tensor(1.0)


class Clock:
    """Seconds as the functions below spend them: no machine's load is in them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self, x: Tensor) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(denoiser, "_clock", clock)
    return clock


def spend(clock: Clock, forth: float, back: float) -> Callable[..., Tensor]:
    """``3 x`` that takes ``forth`` seconds, and ``back`` in its backward pass."""

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            clock.now += forth
            return 3 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            clock.now += back
            return 3 * gradient

    def function(x: Tensor, *rest: Tensor) -> Tensor:
        return Layer.apply(x)  # type: ignore[no-any-return]

    return function


def test_both_ways_through_the_network_are_timed_and_nothing_around_it(clock: Clock) -> None:
    counter = CallCounter(spend(clock, 1, 10))
    counter.timed = True
    around = spend(clock, 100, 1000)
    x = torch.ones(2, 3, requires_grad=True)
    before = around(x)
    other = around(before)  # another use of the input, whose gradient comes last
    out = around(counter(before, SIGMA))
    total = (out + other).sum()
    assert counter.seconds == 1
    gradient = torch.autograd.grad(total, x)[0]
    assert torch.equal(gradient, torch.full((2, 3), 3 * (3 * 3 + 3.0)))
    assert counter.seconds == 1 + 10
    assert (counter.forward, counter.gradient, counter.backward) == (0, 1, 1)


def test_every_product_with_the_jacobian_is_timed(clock: Clock) -> None:
    counter = CallCounter(spend(clock, 1, 10))
    counter.timed = True
    x = torch.ones(2, 3, requires_grad=True)
    out = counter(x, SIGMA)
    for _ in range(4):
        torch.autograd.grad(out, x, torch.ones_like(out), retain_graph=True)
    with torch.no_grad():
        counter(x, SIGMA)
    assert counter.seconds == 1 + 4 * 10 + 1
    assert (counter.forward, counter.gradient, counter.backward) == (1, 1, 4)


@pytest.mark.parametrize("uses", [(0,), (1,), (0, 1)])
def test_a_network_with_two_results_is_timed_by_whichever_is_used(
    clock: Clock, uses: tuple[int, ...]
) -> None:
    one, two = spend(clock, 1, 10), spend(clock, 1, 20)

    class Network:
        def posterior(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            return one(x), two(x)

    counter = CallCounter(Network())
    counter.timed = True
    x = torch.ones(2, requires_grad=True)
    results = counter.posterior(x, SIGMA)
    torch.autograd.grad(sum(results[i].sum() for i in uses), x)
    assert counter.seconds == 2 + sum((10, 20)[i] for i in uses)
    assert counter.backward == 1


def test_a_posterior_is_counted_and_timed_by_its_mean(clock: Clock) -> None:
    """Its variance depends on the level alone, so that no product goes through it."""
    inner = spend(clock, 1, 10)

    class Denoiser:
        def posterior(self, x: Tensor, sigma: Tensor) -> Posterior:
            return Posterior(inner(x), sigma.expand_as(x), Identity())

    counter = CallCounter(Denoiser())
    counter.timed = True
    x = torch.ones(2, requires_grad=True)
    torch.autograd.grad(counter.posterior(x, SIGMA).mean.sum(), x)
    assert counter.seconds == 1 + 10
    assert counter.counts == {"forward": 0, "gradient": 1, "backward": 1}


def test_without_being_asked_it_counts_as_well_but_reads_no_clock(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(x: Tensor) -> float:
        raise AssertionError("the clock was read")

    monkeypatch.setattr(denoiser, "_clock", refuse)
    counter = CallCounter(spend(clock, 1, 10))
    x = torch.ones(2, requires_grad=True)
    out = counter(x, SIGMA)
    assert counter.counts == {"forward": 0, "gradient": 1, "backward": 0}
    for _ in range(3):
        product = torch.autograd.grad(out, x, torch.ones_like(out), retain_graph=True)[0]
        assert torch.equal(product, torch.full((2,), 3.0))
    counter(x.detach(), SIGMA)
    assert counter.counts == {"forward": 1, "gradient": 1, "backward": 3}
    assert counter.seconds == 0


@pytest.mark.parametrize(
    ("sampler", "gradient", "backward"),
    [
        (DPS(num_steps=4), 2, 2),
        # Three levels with a linearisation each. C is a multiple of I, so one step of conjugate
        # gradients solves; it is checked by a second product, and a third makes the correction.
        (WienerGuidance(3, covariance="jacobian"), 3, 9),
    ],
    ids=["dps", "wiener, jacobian"],
)
def test_products_with_a_jacobian_do_not_hide(sampler: Any, gradient: int, backward: int) -> None:
    prior, calls = counted(Prior(GaussianDenoiser(torch.eye(8)), NoiseSchedule.karras(), (2, 4)))
    y = torch.ones(1, 1, 4, dtype=torch.float64)
    sampler.sample(
        prior, GaussianLikelihood(MixtureSum(2), y, 0.1), generator=torch.Generator().manual_seed(0)
    )
    assert (calls.gradient, calls.backward) == (gradient, backward)


def test_a_denoiser_that_gives_back_its_input_can_be_timed(clock: Clock) -> None:
    counter = CallCounter(lambda x, sigma: x)
    counter.timed = True
    x = torch.ones(2, requires_grad=True)
    assert torch.equal(torch.autograd.grad(counter(x, SIGMA).sum(), x)[0], torch.ones(2))
    assert counter.seconds == 0
