"""What phase retrieval cannot tell apart: against all moves of a small frame, one by one."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mgdm_audio.measurement import (
    Affine,
    Clip,
    Function,
    Idempotent,
    Operator,
    PhaseRetrieval,
    ShiftsAndTurn,
    compose,
)

ALL = 10**6  # more moves than any frame here has


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1  # nowhere 0


def box(size: tuple[int, int], rows: slice, columns: slice, channels: int = 1) -> Tensor:
    """Positive in a box, 0 around it: ``[channels, *size]``."""
    x = torch.zeros(channels, *size, dtype=torch.float64)
    x[:, rows, columns] = draw(*x[:, rows, columns].shape)
    return x


def bars() -> Tensor:
    """Two rows so far apart that the frame's ends, which meet, bring the one before the other."""
    x = torch.zeros(1, 8, 5, dtype=torch.float64)
    x[:, [0, 7]] = draw(1, 2, 5)
    return x


CASES = {
    "a box": (box((8, 9), slice(2, 5), slice(4, 8)), (2, 3), 2 * 6 * 6),
    "a box of colours": (box((8, 9), slice(0, 3), slice(0, 4), 3), (2, 2), 2 * 6 * 6),
    "in a corner": (box((6, 6), slice(0, 1), slice(5, 6)), (3, 3), 2 * 36),
    "a full frame": (draw(3, 6, 7), (2, 2), 2),
    "without padding": (box((5, 4), slice(1, 3), slice(0, 2)), (0, 0), 2 * 20),
    "two bars": (bars(), (2, 0), 2 * 4 * 5),  # rows go 0, 5, 6 or 7 down
}


def by_hand(x: Tensor, padding: tuple[int, int]) -> list[Tensor]:
    """Every shift of the frame, and every shift of the reverse, that leaves the padding empty."""
    (above, left), (height, width) = padding, x.shape[-2:]
    found = []
    for event in (x, x.flip(-2, -1)):
        framed = functional.pad(event, (left, left, above, above))
        for shift in itertools.product(*map(range, framed.shape[-2:])):
            moved = framed.roll(shift, (-2, -1))
            inside = moved[:, above : above + height, left : left + width]
            if int((inside != 0).sum()) == int((x != 0).sum()):
                found.append(inside)
    return found


def keys(events: list[Tensor]) -> list[bytes]:
    return sorted(event.contiguous().numpy().tobytes() for event in events)


@pytest.mark.parametrize("case", CASES)
def test_the_moves_are_all_those_that_leave_the_output_as_it_is(case: str) -> None:
    x, padding, number = CASES[case]
    operator = PhaseRetrieval(padding)
    moved = operator.symmetries.nearest(x, x, ALL)
    assert len(moved) == number
    assert keys(moved) == keys(by_hand(x, padding))  # to the bit
    assert torch.equal(moved[0], x)
    y = operator(torch.stack(moved))
    # Sums of up to a hundred values of order 1, over the root of their number.
    torch.testing.assert_close(y, operator(x[None]).expand_as(y), rtol=0, atol=1e-13)


def test_what_is_moved_beyond_the_edge_is_not_one_of_them() -> None:
    x = box((8, 8), slice(2, 6), slice(2, 6))
    cut = functional.pad(x, (0, 0, 3, 0))[:, :8]  # its last row is lost
    operator = PhaseRetrieval((2, 2))
    assert float((operator(cut[None]) - operator(x[None])).abs().max()) > 0.01
    assert not any(torch.equal(cut, moved) for moved in operator.symmetries.nearest(x, x, ALL))


def test_the_nearest_are_those_of_least_squared_error() -> None:
    x, padding, _ = CASES["a box of colours"]
    noisy = x.roll((3, 2), (-2, -1)) + 0.3 * (draw(*x.shape, seed=1) - 0.6)
    found = ShiftsAndTurn(padding).nearest(noisy, x, 7)
    distances = sorted(float((noisy - event).square().sum()) for event in by_hand(x, padding))
    # Sums of some two hundred squares of order 1.
    assert [float((noisy - e).square().sum()) for e in found] == pytest.approx(
        distances[:7], abs=1e-12
    )
    assert torch.equal(found[0], x.roll((3, 2), (-2, -1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_moved_copy_is_found_to_the_bit(dtype: torch.dtype) -> None:
    x = box((12, 12), slice(3, 8), slice(1, 9)).to(dtype)
    for copy in (x.roll((4, -1), (-2, -1)), x.flip(-2, -1).roll((1, 0), (-2, -1)), x):
        (found,) = ShiftsAndTurn((3, 3)).nearest(copy, x)
        assert found.dtype == dtype
        assert torch.equal(found, copy)


def test_a_signal_of_one_axis_and_one_of_three() -> None:
    for shape, padding in (((9,), (2,)), ((2, 5, 4, 3), (2, 2, 1))):
        x = draw(*shape)
        operator = PhaseRetrieval(padding)
        moved = operator.symmetries.nearest(x, x, ALL)
        assert len(moved) == 2
        torch.testing.assert_close(
            operator(moved[1][None]), operator(x[None]), rtol=0, atol=1e-13
        )  # as above


def test_the_sign_is_invisible_too_and_leaves_the_range() -> None:
    operator = compose(PhaseRetrieval((2, 2)), Affine(0.5, 0.5))
    x = 2 * box((8, 8), slice(2, 6), slice(2, 6)) / 1.1 - 1  # in [-1, 1]
    negative = -2 - x
    torch.testing.assert_close(operator(negative[None]), operator(x[None]), rtol=0, atol=1e-13)
    assert float(negative.max()) == -1
    assert operator.symmetries is not None
    assert all(float(m.min()) == -1 for m in operator.symmetries.nearest(negative, x, ALL))


def test_operators_around_it_keep_or_lose_them() -> None:
    inner = PhaseRetrieval((1, 1))
    halved = compose(inner, Affine(0.5, 0.5))
    assert halved.symmetries == ShiftsAndTurn((1, 1), background=-1.0)
    assert compose(Clip(0, 1), halved).symmetries == halved.symmetries
    assert Idempotent(halved).symmetries == halved.symmetries
    shading = Function(lambda x: x * draw(1, 1, 4, 4))  # tells places apart
    without: list[Operator] = [
        compose(inner, shading),
        compose(inner, Affine(0, 1)),  # nothing is observed
        compose(Clip(0, 1), Affine(2, 0)),
        shading,
    ]
    assert [operator.symmetries for operator in without] == [None] * 4
