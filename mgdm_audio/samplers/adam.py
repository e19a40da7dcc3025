"""Adam (arXiv 1412.6980, Algorithm 1) for gradients that a sampler computes itself."""

from __future__ import annotations

import torch
from torch import Tensor


class Adam:
    """Updates one tensor in place, exactly as ``torch.optim.Adam`` does with the same options.

    Unlike that class it takes the gradient as an argument, so that an inner loop needs neither
    parameter groups nor ``backward``.
    """

    def __init__(
        self,
        x: Tensor,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.x = x
        self.learning_rate = learning_rate
        self.betas = betas
        self.eps = eps
        self.m = torch.zeros_like(x)
        self.v = torch.zeros_like(x)
        self.num_steps = 0

    def step(self, gradient: Tensor) -> None:
        """Takes one descent step along ``gradient``, which has the shape of ``x``."""
        self.num_steps += 1
        beta_1, beta_2 = self.betas
        self.m.lerp_(gradient, 1 - beta_1)
        self.v.mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
        # The step size and the denominator include the two bias corrections.
        step_size = self.learning_rate / (1 - beta_1**self.num_steps)
        scale = (1 - beta_2**self.num_steps) ** 0.5
        self.x.addcdiv_(self.m, self.v.sqrt().div_(scale).add_(self.eps), value=-step_size)
