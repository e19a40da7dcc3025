"""Forward operators ``y = A(x)`` as a ladder of capability, so that a sampler's need is a type.

``Operator``: any differentiable map. ``LinearOperator``: has ``adjoint``, ``pinv`` and ``solve``.
``SpectralOperator``: has a singular value decomposition ``A = U S V^T``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mgdm_audio.krylov import conjugate_gradient
from mgdm_audio.measurement.symmetries import ShiftsAndTurn
from mgdm_audio.tensors import per_item


class Operator(ABC):
    """A differentiable map ``x: [batch, *event] -> y: [batch, *observation]``, item by item."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """``A(x)``: ``[batch, *observation]``."""

    @property
    def symmetries(self) -> ShiftsAndTurn | None:
        """The moves of an event that leave ``A(x)`` as it is; None where none is known.

        Not what a linear operator sends to 0: adding that is no move.
        """
        return None

    def pulled_back(self, symmetries: ShiftsAndTurn) -> ShiftsAndTurn | None:
        """The symmetries of ``outer o self`` by those of ``outer``; None where none is known."""
        return None


class LinearOperator(Operator):
    """A linear map. The defaults of ``pinv`` and ``solve`` iterate; override them where you can."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y``: ``[batch, *event]``, defined by ``<A x, y> = <x, A^T y>``."""

    def normal(self, x: Tensor) -> Tensor:
        """``A^T A x``: ``[batch, *event]``."""
        return self.adjoint(self(x))

    def pinv(self, y: Tensor) -> Tensor:
        """``A^+ y``, the least-squares solution of least norm: ``[batch, *event]``."""
        # Started at 0, the iterates stay in the row space, which selects the least norm.
        return conjugate_gradient(self.normal, self.adjoint(y))

    def damped_pinv(self, y: Tensor, rho: float | Tensor) -> Tensor:
        """``A^T (A A^T + rho I)^-1 y``, ``rho > 0``, [] or [batch]: ``[batch, *event]``.

        Equal to ``solve(A^T y, rho)`` on paper. But that divides what rounding leaves in the null
        space by rho, which for a nearly noiseless observation is 1e8 times the error of a float32.
        """
        weight = per_item(rho, y)
        return self.adjoint(conjugate_gradient(lambda u: self(self.adjoint(u)) + weight * u, y))

    def solve(self, b: Tensor, rho: float | Tensor) -> Tensor:
        """``(A^T A + rho I)^-1 b`` for ``b: [batch, *event]`` and ``rho > 0``, [] or [batch].

        With ``b = A^T y + rho m`` this is the posterior mean of ``x ~ N(m, I / rho)`` observed as
        ``y = A x + N(0, I)``.
        """
        weight = per_item(rho, b)
        return conjugate_gradient(lambda x: self.normal(x) + weight * x, b)


class SpectralOperator(LinearOperator):
    """A linear map with a known singular value decomposition ``A = U S V^T``.

    Coordinates ``z: [batch, *spectrum]`` are laid out as the subclass likes; ``singular_values``
    broadcasts over ``*spectrum`` and is 0 on the null space, where ``U_T`` gives 0 and ``U``
    ignores what it is given. ``V`` is orthogonal and covers the whole event.
    """

    @property
    @abstractmethod
    def singular_values(self) -> Tensor:
        """``S >= 0``, float64, broadcastable over ``*spectrum``."""

    @abstractmethod
    def V(self, z: Tensor) -> Tensor:
        """``V z``: coordinates to an event, ``[batch, *event]``."""

    @abstractmethod
    def V_T(self, x: Tensor) -> Tensor:
        """``V^T x``: an event to its coordinates, ``[batch, *spectrum]``."""

    @abstractmethod
    def U(self, z: Tensor) -> Tensor:
        """``U z``: coordinates to an observation, ``[batch, *observation]``."""

    @abstractmethod
    def U_T(self, y: Tensor) -> Tensor:
        """``U^T y``: an observation to coordinates, ``[batch, *spectrum]``."""

    def __call__(self, x: Tensor) -> Tensor:
        z = self.V_T(x)
        return self.U(self.singular_values.to(z) * z)

    def adjoint(self, y: Tensor) -> Tensor:
        z = self.U_T(y)
        return self.V(self.singular_values.to(z) * z)

    def pinv(self, y: Tensor) -> Tensor:
        z = self.U_T(y)
        s = self.singular_values.to(z)
        return self.V(torch.where(s > 0, z / s, 0.0))

    def damped_pinv(self, y: Tensor, rho: float | Tensor) -> Tensor:
        z = self.U_T(y)
        s = self.singular_values.to(z)
        return self.V(s / (s**2 + per_item(rho, z)) * z)

    def solve(self, b: Tensor, rho: float | Tensor) -> Tensor:
        z = self.V_T(b)
        return self.V(z / (self.singular_values.to(z) ** 2 + per_item(rho, z)))


class Composed(Operator):
    """``x -> outer(inner(x))``, for any two operators; see ``compose``."""

    def __init__(self, outer: Operator, inner: Operator) -> None:
        self.outer, self.inner = outer, inner

    def __call__(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    @property
    def symmetries(self) -> ShiftsAndTurn | None:
        own = self.inner.symmetries
        if own is None and self.outer.symmetries is not None:
            own = self.inner.pulled_back(self.outer.symmetries)
        return own


class ComposedLinear(LinearOperator):
    """``x -> outer(inner(x))``, for two linear operators; see ``compose``."""

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        self.outer, self.inner = outer, inner

    def __call__(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))


def compose(outer: Operator, inner: Operator) -> Operator:
    """``outer o inner``, a ``LinearOperator`` when both are."""
    if isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator):
        return ComposedLinear(outer, inner)
    return Composed(outer, inner)
