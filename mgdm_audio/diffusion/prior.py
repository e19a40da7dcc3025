"""The prior p(x_0) consists of a denoiser, a noise schedule, an event shape and maybe a codec."""

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
    """A diffusion prior has the variance-preserving states ``x_t = alpha_t x_0 + sigma_t eps``.

    With a ``codec`` it is a latent prior: ``x_t`` and ``x_0`` are then latents in all methods,
    ``event_shape`` is the shape of one latent, and ``codec.decode(x_0)`` is the event.
    """

    denoiser: Denoiser  # D(x, sigma), in variance-exploding coordinates
    schedule: NoiseSchedule  # the levels that samplers step along
    event_shape: tuple[int, ...]  # of the diffused variable x_t, without the batch
    codec: Codec | None = None  # the autoencoder of a latent prior

    def predict_x0(self, x_t: Tensor, t: Level) -> Tensor:
        """Returns ``E[x_0 | x_t] = D(x_t / alpha_t, sigma_t / alpha_t)`` for ``[batch, *event]``.

        At the clean level 0 it returns ``x_t`` without a call of the network. All entries of a
        per-item ``t`` must be positive.
        """
        if isinstance(t, int) and t == 0:
            return x_t
        alpha = per_item(self.schedule.alpha[t], x_t)
        sigma = send(self.schedule.noise_level[t].to(x_t.dtype), x_t.device)
        return self.denoiser(x_t / alpha, sigma)

    def predict_eps(self, x_t: Tensor, t: Level) -> Tensor:
        """Returns ``E[eps | x_t]``: ``[batch, *event]``, at a level ``t >= 1``."""
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
        """Draws the initial state x_T ``[batch, *event]`` from ``N(0, sigma_T^2 I)``."""
        shape = (batch, *self.event_shape)
        noise = randn(shape, generator=generator, dtype=dtype, device=device)
        return float(self.schedule.sigma[-1]) * noise

    def with_event_shape(self, event_shape: tuple[int, ...]) -> Prior:
        """Returns the same prior on events of another shape (of another duration, for example)."""
        return replace(self, event_shape=tuple(event_shape))


class Codec(Protocol):
    """An autoencoder: ``decode(encode(x))`` approximates ``x`` for events of the prior.

    Both maps act item by item and are differentiable; neither draws random numbers, so a
    variational encoder returns its mean.
    """

    def encode(self, x: Tensor) -> Tensor:
        """Maps ``[batch, *event]`` to ``[batch, *latent]``."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Maps ``[batch, *latent]`` to ``[batch, *event]``."""
        ...
