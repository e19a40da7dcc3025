"""Theorems that every linear operator satisfies; a new operator is tested by a line in the list."""

import pytest
import torch
from torch import Tensor

from mgdm_audio.krylov import conjugate_gradient
from mgdm_audio.measurement import (
    Blur,
    Downsampling,
    KnownSources,
    LinearOperator,
    Mask,
    MixtureSum,
    Operator,
    Separable,
    SeparableBlur,
    SourceMatrix,
    SpatiallyVaryingBlur,
    SpectralOperator,
    Stacked,
    compose,
)

BATCH, SOURCES, TIME = 3, 4, 6
MATRIX = torch.tensor([[1.0, 2, -1, 0], [0, 1, 1, 3], [1, 3, 0, 3]])  # of rank 2
# Peaked, so that a blur is well conditioned: singular values of .2 to 1.
KERNEL = torch.tensor([[0.0, 0.1, 0.05], [0.05, 0.6, 0.1], [0.0, 0.05, 0.05]])
WEIGHTS = torch.linspace(0.1, 0.9, SOURCES * TIME).reshape(SOURCES, TIME)
MASK = torch.rand(SOURCES, TIME, generator=torch.Generator().manual_seed(0)) < 0.4


class Iterative(LinearOperator):
    """Another operator's map without its closed forms: the defaults of LinearOperator."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator

    def __call__(self, x: Tensor) -> Tensor:
        return self.operator(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(y)


OPERATORS: dict[str, LinearOperator] = {
    "sum": MixtureSum(SOURCES),
    "weighted sum": MixtureSum(SOURCES, [1.0, -0.5, 2.0, 0.0]),
    "matrix": SourceMatrix(MATRIX),
    "known": KnownSources([2, 0], SOURCES),
    "mask": Mask(MASK),
    "sum and known": Stacked([MixtureSum(SOURCES), KnownSources([1, 3], SOURCES)]),
    "sum and all known": Stacked([MixtureSum(SOURCES), KnownSources(range(4), SOURCES)]),
    "sum and mask": Stacked([MixtureSum(SOURCES), Mask(MASK)], sizes=[1, SOURCES]),
    "masked sum": compose(Mask(MASK[:1]), MixtureSum(SOURCES)),  # type: ignore[dict-item]
    "blur": Blur(KERNEL, (SOURCES, TIME)),
    "blur of time": Blur(KERNEL[1], [TIME], padding="circular"),
    "blur by axes": SeparableBlur(KERNEL[1], (SOURCES, TIME)),
    "truncated blur": SeparableBlur(KERNEL[1], (SOURCES, TIME), padding="zeros", cutoff=0.6),
    "varying blur": SpatiallyVaryingBlur(
        torch.stack([KERNEL, KERNEL.T]), torch.stack([WEIGHTS, 1 - WEIGHTS])
    ),
    "means of blocks": Downsampling(2, (SOURCES, TIME)),
    "matrix of one axis": Separable({-2: MATRIX}),
    "iterative sum": Iterative(MixtureSum(SOURCES)),
    "iterative matrix": Iterative(SourceMatrix(MATRIX)),
}
SPECTRAL = {name: op for name, op in OPERATORS.items() if isinstance(op, SpectralOperator)}

each = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def draw(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, SOURCES, TIME, generator=generator, dtype=dtype)


def observation(operator: LinearOperator, dtype: torch.dtype = torch.float64) -> Tensor:
    """Any observation, not only one the operator could make."""
    shape = operator(draw(0, dtype)).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=dtype)


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal up to products of orthonormal matrices of side 4."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-13)


def dense(operator: LinearOperator) -> Tensor:
    """The matrix of the operator, ``[observations, SOURCES * TIME]``."""
    basis = torch.eye(SOURCES * TIME, dtype=torch.float64).reshape(-1, SOURCES, TIME)
    return operator(basis).flatten(1).T


@each
@pytest.mark.parametrize("rho", [0.3, torch.tensor([0.1, 1.0, 10.0])], ids=["one", "each"])
def test_the_damped_pinv_is_the_dense_one(
    operator: LinearOperator, rho: float | torch.Tensor
) -> None:
    a, y = dense(operator), observation(operator)
    damping = torch.as_tensor(rho, dtype=torch.float64).expand(BATCH)
    for i in range(BATCH):
        want = a.T @ torch.linalg.solve(
            a @ a.T + damping[i] * torch.eye(len(a), dtype=torch.float64), y[i].flatten()
        )
        got = operator.damped_pinv(y, rho)[i].flatten()
        # Conjugate gradients stop at ten rounding errors of a matrix of condition 400 at most.
        torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


@each
def test_the_damped_pinv_keeps_rounding_out_of_the_null_space(operator: LinearOperator) -> None:
    y = observation(operator)
    y = operator(operator.pinv(y))  # what A can make: else the rest is divided by rho, rightly
    want = operator.damped_pinv(y, 1e-8)
    got = operator.damped_pinv(y.float(), 1e-8).double()
    # Single precision, where solve(A^T y, 1e-8) is wrong by 4 to 8 times the answer.
    assert float((got - want).norm() / want.norm()) < 1e-3


@each
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_adjoint(operator: LinearOperator, dtype: torch.dtype, bound: float) -> None:
    x = draw(0, dtype)
    y = observation(operator, dtype)
    a_x, at_y = operator(x), operator.adjoint(y)
    assert a_x.dtype == at_y.dtype == dtype
    left, right = (a_x * y).flatten(1).sum(1), (x * at_y).flatten(1).sum(1)
    scale = a_x.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)
    assert float(((left - right) / scale).abs().max()) <= bound


@each
def test_the_pseudo_inverse(operator: LinearOperator) -> None:
    # A least singular value of .5 or so, and ten rounding errors of slack in the iteration.
    y = observation(operator)
    expected = y.flatten(1) @ torch.linalg.pinv(dense(operator)).T
    torch.testing.assert_close(operator.pinv(y).flatten(1), expected, rtol=0, atol=1e-12)
    a_x = operator(draw(0))
    torch.testing.assert_close(operator(operator.pinv(a_x)), a_x, rtol=0, atol=1e-12)


@each
@pytest.mark.parametrize("rho", [1e-4, 0.3, 100.0])
def test_solve(operator: LinearOperator, rho: float) -> None:
    b, a = draw(0), dense(operator)
    x = operator.solve(b, rho)
    residual = operator.adjoint(operator(x)) + rho * x - b
    # Rounding is amplified by |A|^2 / rho at most, and |A|^2 < 30.
    assert float(residual.abs().max()) < 1e-13 * (1 + 30 / rho)
    exact = torch.linalg.solve(a.T @ a + rho * torch.eye(a.shape[1], dtype=a.dtype), b.flatten(1).T)
    torch.testing.assert_close(x.flatten(1), exact.T, rtol=1e-9, atol=1e-9)


@each
def test_solve_takes_a_weight_per_item(operator: LinearOperator) -> None:
    b, rho = draw(0), torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    together = operator.solve(b, rho)
    for i in range(BATCH):
        alone = operator.solve(b[i : i + 1], float(rho[i]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("operator", SPECTRAL.values(), ids=SPECTRAL)
def test_the_singular_value_decomposition(operator: SpectralOperator) -> None:
    x, s = draw(0), operator.singular_values
    y = observation(operator)
    z = operator.V_T(x)
    close(operator.V(z), x)
    close(z.norm(), x.norm())
    close(operator.U(s * z), operator(x))
    close(operator.V(s * operator.U_T(y)), operator.adjoint(y))
    seen = (s > 0).expand_as(z)
    assert not operator.U_T(y)[~seen].any()
    close(operator.U_T(operator.U(z))[seen], z[seen])


@each
def test_items_do_not_meet(operator: LinearOperator) -> None:
    x = draw(0)
    y = operator(x)
    others = x.clone()
    others[1:] = 1e6 * draw(1)[1:]
    for before, after in [
        (y[0], operator(others)[0]),
        (operator.solve(x, 0.3)[0], operator.solve(others, 0.3)[0]),
        (operator.pinv(y)[0], operator.pinv(operator(others))[0]),
    ]:
        torch.testing.assert_close(before, after, rtol=0, atol=1e-14)


def test_conjugate_gradients_end_at_zero_and_after_n_steps() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2, 5], dtype=torch.float64))
    calls = []

    def matvec(x: Tensor) -> Tensor:
        calls.append(1)
        return x @ matrix

    b = torch.tensor([[1.0, 1, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.float64)
    x = conjugate_gradient(matvec, b)
    torch.testing.assert_close(x @ matrix, b, rtol=0, atol=1e-14)
    assert len(calls) <= 4  # three distinct eigenvalues: three steps, and one for rounding


def test_preconditioned_by_the_inverse_one_step_is_enough() -> None:
    root = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = root @ root.T + 1e-3 * torch.eye(6)
    inverse = torch.linalg.inv(matrix)
    b = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b[2] = 0  # nothing to do, and nothing divided by it
    x = conjugate_gradient(
        lambda x: x @ matrix, b, max_iterations=1, precondition=lambda r: r @ inverse
    )
    torch.testing.assert_close(x, b @ inverse, rtol=1e-9, atol=0)
    # Any positive scaling leads to the same solution.
    diagonal = 1 / matrix.diagonal()
    x = conjugate_gradient(lambda x: x @ matrix, b, precondition=lambda r: r * diagonal)
    torch.testing.assert_close(x, b @ inverse, rtol=1e-9, atol=0)


def test_composition_is_linear_only_if_both_are() -> None:
    class Modulus(Operator):
        def __call__(self, x: Tensor) -> Tensor:
            return x.abs()

    assert isinstance(compose(Mask(MASK[:1]), MixtureSum(SOURCES)), LinearOperator)
    composed = compose(Modulus(), MixtureSum(SOURCES))
    assert not isinstance(composed, LinearOperator)
    x = draw(0)
    assert torch.equal(composed(x), x.sum(1, keepdim=True).abs())
