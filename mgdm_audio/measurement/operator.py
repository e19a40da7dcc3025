"""Forward operators ``y = A(x)`` in three classes, by which a sampler states what it needs.

``Operator`` is any differentiable map, ``LinearOperator`` has ``adjoint``, ``pinv`` and ``solve``,
``SpectralOperator`` has a singular value decomposition ``A = U S V^T``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mgdm_audio.krylov import conjugate_gradient
from mgdm_audio.measurement.symmetries import ShiftsAndTurn
from mgdm_audio.tensors import per_item


class Operator(ABC):
    """An operator maps ``x: [batch, *event]`` to ``y: [batch, *observation]`` item by item.

    It must be differentiable.
    """

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Returns ``A(x)``: ``[batch, *observation]``."""

    @property
    def symmetries(self) -> ShiftsAndTurn | None:
        """The shifts and reversals of an event that keep ``A(x)``; None where none are known.

        The null space of a linear operator is not among them.
        """
        return None

    def pulled_back(self, symmetries: ShiftsAndTurn) -> ShiftsAndTurn | None:
        """Returns the symmetries of ``outer o self``, given those of ``outer``; None if unknown."""
        return None


class LinearOperator(Operator):
    """A linear operator has an adjoint, a pseudo-inverse and regularised solves.

    By default these iterate (conjugate gradients); override them where a closed form is known.
    """

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Returns ``A^T y``: ``[batch, *event]``, defined by ``<A x, y> = <x, A^T y>``."""

    def normal(self, x: Tensor) -> Tensor:
        """Returns ``A^T A x``: ``[batch, *event]``."""
        return self.adjoint(self(x))

    def pinv(self, y: Tensor) -> Tensor:
        """Returns ``A^+ y``, the least-squares solution of least norm: ``[batch, *event]``."""
        # From 0 the iterates stay in the row space, so the solution has the least norm.
        return conjugate_gradient(self.normal, self.adjoint(y))

    def damped_pinv(self, y: Tensor, rho: float | Tensor) -> Tensor:
        """Returns ``A^T (A A^T + rho I)^-1 y: [batch, *event]`` for ``rho > 0``, [] or [batch].

        In exact arithmetic it equals ``solve(A^T y, rho)``, which divides rounding errors in the
        null space by rho: for a nearly noiseless observation it amplifies them by 1e8.
        """
        weight = per_item(rho, y)
        return self.adjoint(conjugate_gradient(lambda u: self(self.adjoint(u)) + weight * u, y))

    def solve(self, b: Tensor, rho: float | Tensor) -> Tensor:
        """Returns ``(A^T A + rho I)^-1 b: [batch, *event]`` for ``rho > 0``, [] or [batch].

        With ``b = A^T y + rho m`` this is the posterior mean of ``x ~ N(m, I / rho)`` given
        ``y = A x + eps``, ``eps ~ N(0, I)``.
        """
        weight = per_item(rho, b)
        return conjugate_gradient(lambda x: self.normal(x) + weight * x, b)


class SpectralOperator(LinearOperator):
    """A spectral operator is linear with a known singular value decomposition ``A = U S V^T``.

    The subclass chooses the layout of the coordinates ``z: [batch, *spectrum]``. On the null space
    ``singular_values`` are 0, ``U_T`` returns 0 and ``U`` ignores its input. ``V`` is orthogonal
    and square.
    """

    @property
    @abstractmethod
    def singular_values(self) -> Tensor:
        """``S >= 0``, float64, broadcastable over ``*spectrum``."""

    @abstractmethod
    def V(self, z: Tensor) -> Tensor:
        """Returns ``V z``, the event with the coordinates z: ``[batch, *event]``."""

    @abstractmethod
    def V_T(self, x: Tensor) -> Tensor:
        """Returns ``V^T x``, the coordinates of an event: ``[batch, *spectrum]``."""

    @abstractmethod
    def U(self, z: Tensor) -> Tensor:
        """Returns ``U z``, the observation with the coordinates z: ``[batch, *observation]``."""

    @abstractmethod
    def U_T(self, y: Tensor) -> Tensor:
        """Returns ``U^T y``, the coordinates of an observation: ``[batch, *spectrum]``."""

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
    """The composition ``x -> outer(inner(x))`` of any two operators; see ``compose``."""

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
    """The composition ``x -> outer(inner(x))`` of two linear operators; see ``compose``."""

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        self.outer, self.inner = outer, inner

    def __call__(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))


def compose(outer: Operator, inner: Operator) -> Operator:
    """Returns ``outer o inner``, which is a ``LinearOperator`` when both are."""
    if isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator):
        return ComposedLinear(outer, inner)
    return Composed(outer, inner)
