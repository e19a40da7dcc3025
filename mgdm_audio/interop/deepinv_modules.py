"""This package's operators and denoisers as modules of deepinv, which this file imports."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.models import Denoiser as TheirDenoiser
from deepinv.physics import GaussianNoise, LinearPhysics, Physics, ZeroNoise
from torch import Tensor

from mgdm_audio.diffusion.denoiser import Denoiser
from mgdm_audio.measurement import LinearOperator, Operator
from mgdm_audio.tensors import per_item


def _noise(noise_std: float | None, generator: torch.Generator | None) -> Any:
    return ZeroNoise() if noise_std is None else GaussianNoise(noise_std, rng=generator)


class PhysicsOf(Physics):
    """An ``Operator`` as a ``Physics``, see ``interop.deepinv.physics_of``."""

    def __init__(
        self, operator: Operator, noise_std: float | None, generator: torch.Generator | None
    ) -> None:
        super().__init__(noise_model=_noise(noise_std, generator))
        self.operator = operator

    def A(self, x: Tensor, **parameters: Any) -> Tensor:
        return self.operator(x)


class LinearPhysicsOf(LinearPhysics):
    """A ``LinearOperator`` as a ``LinearPhysics``, see ``interop.deepinv.physics_of``."""

    def __init__(
        self, operator: LinearOperator, noise_std: float | None, generator: torch.Generator | None
    ) -> None:
        super().__init__(noise_model=_noise(noise_std, generator))
        self.operator = operator

    def A(self, x: Tensor, **parameters: Any) -> Tensor:
        return self.operator(x)

    def A_adjoint(self, y: Tensor, **parameters: Any) -> Tensor:
        return self.operator.adjoint(y)

    def A_dagger(self, y: Tensor, **parameters: Any) -> Tensor:
        return self.operator.pinv(y)

    def prox_l2(
        self, z: Tensor | float | None, y: Tensor, gamma: float | Tensor, **parameters: Any
    ) -> Tensor:
        """``argmin_x gamma |A x - y|^2 / 2 + |x - z|^2 / 2``; z: an event, a number or None (0)."""
        b = self.operator.adjoint(y)
        rho = 1 / torch.as_tensor(gamma, dtype=b.dtype, device=b.device).flatten()
        rho = rho[0] if len(rho) == 1 else rho
        return self.operator.solve(b + per_item(rho, b) * (0.0 if z is None else z), rho)


class DenoiserModule(TheirDenoiser):
    """A ``D(x, sigma)`` as a ``deepinv.models.Denoiser``, see ``interop.deepinv.module_of``."""

    def __init__(self, denoiser: Denoiser, unit_range: bool) -> None:
        super().__init__()
        self.denoiser, self.unit_range = denoiser, unit_range

    def forward(self, x: Tensor, sigma: float | Tensor, **parameters: Any) -> Tensor:
        """``x``: [batch, *event], in [0, 1] with ``unit_range``; ``sigma``: a number or [batch]."""
        level = self._handle_sigma(sigma, batch_size=len(x), device=x.device, dtype=x.dtype)
        if not bool((level > 0).all()):
            raise ValueError(f"sigma {level.tolist()}: give a noise level above 0")
        if not self.unit_range:
            return self.denoiser(x, level)
        return (self.denoiser(2 * x - 1, 2 * level) + 1) / 2
