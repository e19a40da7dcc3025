"""deepinv's physics and denoisers as this package's operators, likelihoods and priors, and back.

    theirs (https://deepinv.github.io)       ours                    to ours          to theirs
    deepinv.physics.Physics                  Operator                operator_of      physics_of
    a Physics with its noise model, and y    GaussianLikelihood      likelihood_of
    deepinv.models.Denoiser                  Denoiser                denoiser_of      module_of
    deepinv.models.Denoiser, and levels      Prior                   prior_of

``unit_range``: their images have values u in [0, 1] and their sigma is the noise on u; ours have
x = 2 u - 1 in [-1, 1], with noise of 2 sigma. Where it is False, values and levels stay as they
are, as those of sound should. The functions import deepinv when they are called; without it they
raise UserError.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.diffusion import NoiseSchedule, Prior
from mgdm_audio.diffusion.denoiser import Denoiser
from mgdm_audio.errors import UserError, described
from mgdm_audio.measurement import (
    Affine,
    Function,
    GaussianLikelihood,
    LinearOperator,
    Operator,
    PoissonLikelihood,
    compose,
)
from mgdm_audio.tensors import per_item

__all__ = [
    "denoiser_of",
    "likelihood_of",
    "module_of",
    "noise_std_of",
    "operator_of",
    "physics_of",
    "prior_of",
]


def operator_of(physics: Any, event_shape: Sequence[int]) -> Operator:
    """The noiseless map ``A`` of a ``deepinv.physics.Physics``, on the same values.

    ``event_shape``: of one item, without the batch. A ``LinearPhysics`` becomes a
    ``LinearOperator`` with the physics' adjoint (by automatic differentiation where it has none);
    any other physics a differentiable ``Operator``. What is solved with it is so in closed form
    for a ``DecomposablePhysics``, of whose singular values ``pinv`` takes those up to 1e-5 as 0,
    and else by conjugate gradients. A sampler works in the dtype of y, which must be that of the
    physics.

    Raises UserError, in one line, for a physics that does not take such an event, and one whose
    observation is not one real tensor.
    """
    physics_module = _deepinv("physics")
    if not isinstance(physics, physics_module.Physics):
        raise UserError(f"{type(physics).__name__}: is no deepinv.physics.Physics")
    linear = isinstance(physics, physics_module.LinearPhysics)
    closed = isinstance(physics, physics_module.DecomposablePhysics)
    kind = _Decomposable if closed else _Linear
    operator = kind(physics, event_shape) if linear else Function(physics.A)
    _check(operator, physics, tuple(event_shape))
    return operator


def noise_std_of(physics: Any) -> float:
    """The standard deviation of a physics' Gaussian noise, in the units of its observation.

    Raises UserError for another noise model, none, and levels that differ by item.
    """
    noise = physics.noise_model
    name = type(noise).__name__
    if not isinstance(noise, _deepinv("physics").GaussianNoise):
        raise UserError(f"noise model {name}: is not Gaussian; give noise_std, say 1e-3")
    return _one(noise, "sigma")


def likelihood_of(
    physics: Any,
    y: Tensor,
    event_shape: Sequence[int],
    *,
    noise_std: float | None = None,
    unit_range: bool = True,
) -> GaussianLikelihood | PoissonLikelihood:
    """``g(y | x)`` for ``y = physics(u): [batch, *observation]`` and ``x: [batch, *event_shape]``.

    ``unit_range``: x is 2 u - 1 in [-1, 1], see the module; else x is u. A linear physics keeps a
    linear operator then, since ``y = A (x + 1) / 2 + n`` is ``2 y - A 1 = A x + 2 n``: the
    likelihood's own ``y`` and ``noise_std`` are those of the second equation. ``noise_std``, in the
    units of y, replaces that of the physics' noise model. Without it, Gaussian noise becomes a
    ``GaussianLikelihood`` and Poisson noise a ``PoissonLikelihood``.

    Raises UserError for other noise, for a sensor model, and as ``operator_of``.
    """
    operator = operator_of(physics, event_shape)
    probe = 1e3 * math.pi * (1 + y.abs())
    if noise_std is None and not torch.equal(physics.sensor(probe), probe):
        raise UserError("the sensor model changes the noise; give noise_std to ignore that")
    from_unit = Affine(0.5, 0.5)
    if noise_std is None and isinstance(physics.noise_model, _deepinv("physics").PoissonNoise):
        counts, gain = physics.noise_model, _one(physics.noise_model, "gain")
        seen = compose(operator, from_unit) if unit_range else operator
        return PoissonLikelihood(seen, y if bool(counts.normalize) else gain * y, 1 / gain)
    std = noise_std_of(physics) if noise_std is None else noise_std
    if not unit_range:
        return GaussianLikelihood(operator, y, std)
    if not isinstance(operator, LinearOperator):
        return GaussianLikelihood(compose(operator, from_unit), y, std)
    ones = operator(torch.ones((1, *event_shape), dtype=y.dtype, device=y.device))
    return GaussianLikelihood(operator, 2 * y - ones, 2 * std)


def physics_of(
    operator: Operator,
    noise_std: float | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Any:
    """An operator as a ``deepinv.physics.LinearPhysics``, or a ``Physics`` where it is not linear.

    On the same values: nothing is converted. ``A_adjoint``, ``A_dagger`` and ``prox_l2`` are the
    operator's ``adjoint``, ``pinv`` and ``solve``. ``noise_std``: of Gaussian noise on the
    observation, drawn from ``generator`` where there is one; None: no noise.
    """
    _deepinv("physics")
    from mgdm_audio.interop.deepinv_modules import LinearPhysicsOf, PhysicsOf

    if isinstance(operator, LinearOperator):
        return LinearPhysicsOf(operator, noise_std, generator)
    return PhysicsOf(operator, noise_std, generator)


def denoiser_of(denoiser: Any, *, unit_range: bool = True) -> Denoiser:
    """A ``deepinv.models.Denoiser``, ``forward(u, sigma)``, as this package's ``D(x, sigma)``.

    Put the module into ``eval()``, and its weights on the device of the samplers' states.
    """
    return _FromModule(denoiser, unit_range)


def prior_of(
    denoiser: Any,
    event_shape: Sequence[int],
    schedule: NoiseSchedule,
    *,
    unit_range: bool = True,
) -> Prior:
    """A ``deepinv.models.Denoiser`` as a prior over events ``[batch, *event_shape]``.

    ``schedule``: the levels sigma / alpha at which a sampler calls it, in this package's units,
    which with ``unit_range`` are twice the module's sigma. Samplers begin at noise of the top
    level, in which an event must be lost: the module must have been trained up to there, as
    ``deepinv.models.DiffUNet`` was.
    """
    return Prior(denoiser_of(denoiser, unit_range=unit_range), schedule, tuple(event_shape))


def module_of(denoiser: Denoiser, *, unit_range: bool = True) -> Any:
    """A denoiser (``prior.denoiser``, for example) as a ``deepinv.models.Denoiser``.

    Its weights stay on their device. ``forward(u, sigma)`` raises ``ValueError`` for a sigma that
    is not above 0.
    """
    _deepinv("models")
    from mgdm_audio.interop.deepinv_modules import DenoiserModule

    return DenoiserModule(denoiser, unit_range)


def _one(noise: Any, name: str) -> float:
    """A parameter of a noise model. UserError where it differs by item, or is not above 0."""
    values = torch.unique(getattr(noise, name)).tolist()
    if len(values) != 1 or not values[0] > 0:
        raise UserError(
            f"noise model {type(noise).__name__}: {name} is {', '.join(f'{v:g}' for v in values)}; "
            f"a likelihood has one, above 0: give noise_std, or one batch for each {name}"
        )
    return float(values[0])


class _Linear(LinearOperator):
    """A ``LinearPhysics``; what is solved is solved by this package's conjugate gradients."""

    def __init__(self, physics: Any, event_shape: Sequence[int]) -> None:
        self.physics, self.event_shape = physics, tuple(event_shape)
        own = type(physics).A_adjoint is not _deepinv("physics").LinearPhysics.A_adjoint
        self.has_adjoint = own or physics.A_adj is not None

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.physics.A(x)
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        if self.has_adjoint:
            x: Tensor = self.physics.A_adjoint(y)
            return x
        pull: Any = torch.func.vjp(self.physics.A, y.new_zeros(len(y), *self.event_shape))[1]
        back: Tensor = pull(y)[0]
        return back


class _Decomposable(_Linear):
    """A ``DecomposablePhysics``, whose singular values are known to it."""

    def pinv(self, y: Tensor) -> Tensor:
        x: Tensor = self.physics.A_dagger(y)
        return x

    def damped_pinv(self, y: Tensor, rho: float | Tensor) -> Tensor:
        z, s = self.physics.U_adjoint(y), self.physics.mask
        x: Tensor = self.physics.V(s.conj() * z / (s.abs() ** 2 + per_item(rho, z.real)))
        return x

    def solve(self, b: Tensor, rho: float | Tensor) -> Tensor:
        # argmin_x gamma |A x|^2 / 2 + |x - z|^2 / 2, gamma = 1 / rho and z = b / rho
        weight = per_item(rho, b)
        y = torch.zeros_like(self(b))
        x: Tensor = self.physics.prox_l2(b / weight, y, 1 / weight)
        return x


class _FromModule:
    """See ``denoiser_of``."""

    def __init__(self, module: Any, unit_range: bool) -> None:
        self.module, self.unit_range = module, unit_range

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.to(x).expand(len(x))
        found: Tensor
        if not self.unit_range:
            found = self.module(x, sigma)
            return found
        found = self.module((x + 1) / 2, sigma / 2)
        return 2 * found - 1


def _check(operator: Operator, physics: Any, event_shape: tuple[int, ...]) -> None:
    """Raises UserError unless an event of that shape is observed as a real tensor, and back."""
    name = type(physics).__name__
    own = [buffer for buffer in physics.buffers() if buffer.is_floating_point()]
    dtype = reduce(torch.promote_types, [buffer.dtype for buffer in own], torch.float32)
    device = own[0].device if own else torch.device("cpu")
    try:
        y: Any = operator(torch.zeros((1, *event_shape), dtype=dtype, device=device))
        if not isinstance(y, Tensor) or y.is_complex():
            what = "complex" if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise UserError(
                f"{name}: its observation is {what}, not one real tensor; bring its parts over one "
                "by one, and join them by mgdm_audio.measurement.Stacked"
            )
        back = operator.adjoint(y).shape[1:] if isinstance(operator, LinearOperator) else None
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{name}: does not take an event of shape {event_shape} ({described(error)}); give "
            "the shape that it was made for, without the batch"
        ) from None
    if back not in (None, event_shape):
        raise UserError(
            f"{name}: its adjoint gives {tuple(back)} for an event of shape {event_shape}"
        )


def _deepinv(part: str) -> Any:
    """The module ``deepinv.part``. Raises UserError where deepinv is not installed."""
    try:
        return importlib.import_module(f"deepinv.{part}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "deepinv":
            raise
        raise UserError("this needs deepinv, which is not installed: pip install deepinv") from None
