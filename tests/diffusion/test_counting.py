"""Time inside a denoiser: every call, every backward pass, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import CallCounter, denoiser

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


def test_without_being_asked_it_reads_no_clock_and_changes_no_graph(clock: Clock) -> None:
    counter = CallCounter(lambda x, sigma: x)
    x = torch.ones(2, requires_grad=True)
    assert counter(x, SIGMA) is x
    assert (counter.gradient, counter.seconds, counter.backward) == (1, 0, 0)


def test_a_denoiser_that_gives_back_its_input_can_be_timed(clock: Clock) -> None:
    counter = CallCounter(lambda x, sigma: x)
    counter.timed = True
    x = torch.ones(2, requires_grad=True)
    assert torch.equal(torch.autograd.grad(counter(x, SIGMA).sum(), x)[0], torch.ones(2))
    assert counter.seconds == 0
