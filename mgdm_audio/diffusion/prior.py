"""The prior p(x_0): a denoiser, the schedule it is sampled along, an event's shape, a codec."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mgdm_audio.diffusion.denoiser import Denoiser
from mgdm_audio.diffusion.schedule import Level, NoiseSchedule
from mgdm_audio.rng import Generators, randn
from mgdm_audio.tensors import per_item, send


@dataclass(frozen=True)
class Prior:
    """A diffusion prior in variance-preserving coordinates ``x_t = alpha_t x_0 + sigma_t eps``.

    With a ``codec`` it is a latent prior: ``x_t`` and ``x_0`` are latents wherever this class
    speaks of them, ``event_shape`` is the shape of one latent, and ``codec.decode(x_0)`` the event.
    """

    denoiser: Denoiser
    schedule: NoiseSchedule
    event_shape: tuple[int, ...]  # of the variable that is diffused
    codec: Codec | None = None

    def predict_x0(self, x_t: Tensor, t: Level) -> Tensor:
        """``E[x_0 | x_t] = D(x_t / alpha_t, sigma_t / alpha_t)``, ``x_t: [batch, *event]``.

        Level 0 is clean: ``x_t`` comes back and no network is called. A per-item ``t`` must be
        positive throughout.
        """
        if isinstance(t, int) and t == 0:
            return x_t
        alpha = per_item(self.schedule.alpha[t], x_t)
        sigma = send(self.schedule.noise_level[t].to(x_t.dtype), x_t.device)
        return self.denoiser(x_t / alpha, sigma)

    def predict_eps(self, x_t: Tensor, t: Level) -> Tensor:
        """``E[eps | x_t]``, ``[batch, *event]``, at a level ``t >= 1``."""
        alpha = per_item(self.schedule.alpha[t], x_t)
        sigma = per_item(self.schedule.sigma[t], x_t)
        return (x_t - alpha * self.predict_x0(x_t, t)) / sigma

    def sample_x_T(
        self,
        batch: int,
        *,
        generator: Generators,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """The initial state ``[batch, *event]``: noise of the top level's standard deviation."""
        shape = (batch, *self.event_shape)
        noise = randn(shape, generator=generator, dtype=dtype, device=device)
        return float(self.schedule.sigma[-1]) * noise

    def with_event_shape(self, event_shape: tuple[int, ...]) -> Prior:
        """The same prior on events of another shape (another duration, say)."""
        return replace(self, event_shape=tuple(event_shape))


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
