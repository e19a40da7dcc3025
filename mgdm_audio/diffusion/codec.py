"""What a latent prior adds to a prior: the way from an event to what is diffused, and back."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Codec(Protocol):
    """An autoencoder: ``decode(encode(x))`` is near ``x`` for every event the prior knows.

    Both maps act item by item and are differentiable; neither draws random numbers, so a
    variational encoder returns its mean.
    """

    def encode(self, x: Tensor) -> Tensor:
        """``[batch, *event] -> [batch, *latent]``."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """``[batch, *latent] -> [batch, *event]``."""
        ...
