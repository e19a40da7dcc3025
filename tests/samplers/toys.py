"""Operators, denoisers and numbers that the samplers' tests share."""

import torch
from torch import Tensor

from mgdm_audio.measurement import (
    KnownSources,
    LinearOperator,
    Mask,
    MixtureSum,
    Operator,
    SourceMatrix,
    Stacked,
)
from mgdm_audio.rng import generator_for, randn

EVENT = (4, 8)  # of the prior in conftest.py


def normal(*shape: int, seed: int = 0) -> Tensor:
    return randn(shape, generator=generator_for(seed, "test"), dtype=torch.float64)


class Plain(LinearOperator):
    """No more than the base class gives: pseudo-inverse and solve iterate."""

    def __init__(self) -> None:
        self.matrix = normal(5, 32)

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.T

    def adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix).reshape(-1, *EVENT)


class Energy(Operator):
    """Not linear."""

    def __call__(self, x: Tensor) -> Tensor:
        return (x**2).sum(1, keepdim=True)


class Known:
    """A denoiser that knows the answer: the prior is a point."""

    def __init__(self, x_0: Tensor) -> None:
        self.x_0 = x_0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.x_0.expand_as(x)


OPERATORS = {
    "sum": MixtureSum(4),
    "weighted": MixtureSum(4, [1.0, 0.5, -2.0, 0.0]),
    "matrix": SourceMatrix(normal(3, 4)),
    "mask": Mask(normal(*EVENT) > 0),
    "stacked": Stacked([MixtureSum(4), KnownSources([1], 4)]),
    "plain": Plain(),
}
