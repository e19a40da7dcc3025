"""Gaussian conditioning by conjugate gradients, for any linear operator and any covariance."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mgdm_audio.conditioning.base import Spread
from mgdm_audio.diffusion.posterior import KRYLOV_STEPS, GaussianPosterior, JacobianPosterior
from mgdm_audio.errors import PairingError, UserError
from mgdm_audio.krylov import conjugate_gradient
from mgdm_audio.measurement import LinearOperator
from mgdm_audio.tensors import inner, per_item


@dataclass(frozen=True)
class IterativeConditional:
    """Conditions on any linear observation under any covariance; ``condition`` lists its errors."""

    operator: LinearOperator
    posterior: GaussianPosterior
    noise_std: float  # sigma_y
    spread: Spread = None

    def score(self, residual: Tensor) -> Tensor:
        return self.operator.adjoint(self._solve(residual))

    def shift(self, residual: Tensor) -> Tensor:
        return self.posterior.covariance_product(self.score(residual))

    def _solve(self, residual: Tensor) -> Tensor:
        """Returns ``(A (C + spread C^2) A^T + sigma_y^2 I)^-1 residual``."""
        steps = KRYLOV_STEPS if isinstance(self.posterior, JacobianPosterior) else 1000
        solution = conjugate_gradient(self._observed, residual, max_iterations=steps)
        error = residual - self._observed(solution)
        failed = inner(error, error) > 0.01 * inner(residual, residual)
        if not bool(failed.any()):
            return solution
        if isinstance(self.posterior, JacobianPosterior):
            raise PairingError(
                "covariance='jacobian': the network's Jacobian is too far from symmetric to be a "
                "covariance; use covariance='band' or 'reported'"
            )
        raise UserError(
            f"{type(self.operator).__name__}: conditioning on it did not converge in {steps} steps "
            f"of conjugate gradients; give more noise than noise_std = {self.noise_std:g}"
        )

    def _observed(self, u: Tensor) -> Tensor:
        """Returns ``(A (C + spread C^2) A^T + sigma_y^2 I) u``."""
        x = self.posterior.covariance_product(self.operator.adjoint(u))
        if self.spread is not None:
            x = x + per_item(self.spread, x) * self.posterior.covariance_product(x)
        return self.operator(x) + self.noise_std**2 * u
