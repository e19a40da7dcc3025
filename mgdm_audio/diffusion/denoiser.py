"""The interface of every denoiser: ``D(x, sigma) = E[x_0 | x_0 + sigma eps = x]``.

The scale is variance exploding whatever the network was trained on, so a sampler does not depend
on the parameterisation of a network. Each adapter below makes the change of variables for one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, Protocol

import torch
from torch import Tensor

from mgdm_audio.tensors import per_item, send

Network = Callable[[Tensor, Tensor], Tensor]
"""``net(x: [batch, *event], condition: [batch]) -> [batch, *event]``."""


class Denoiser(Protocol):
    """A denoiser computes ``D(x, sigma) = E[x_0 | x_0 + sigma eps = x]``."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Returns D for ``x: [batch, *event]`` and ``sigma > 0``, [] or [batch], shaped as x."""
        ...


class EDMDenoiser:
    """Adapts the preconditioned network F of EDM (arXiv 2206.00364, Table 1).

    ``D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`` with ``c_skip = sd^2 / (sigma^2 + sd^2)``,
    ``c_out = sigma sd / sqrt(sigma^2 + sd^2)``, ``c_in = 1 / sqrt(sigma^2 + sd^2)`` and
    ``c_noise = log(sigma) / 4``, where ``sd = sigma_data`` is the data's standard deviation.
    With a ``limit`` D is clamped to ``[-limit, limit]``; MSDM's public network needs 1.
    """

    def __init__(self, net: Network, sigma_data: float, limit: float | None = None) -> None:
        self.net = net
        self.sigma_data = sigma_data
        self.limit = limit

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = _one_per_item(sigma, x)
        total = (sigma**2 + self.sigma_data**2).sqrt()
        c_skip, c_in = (self.sigma_data / total) ** 2, 1 / total
        c_out, c_noise = sigma * self.sigma_data / total, sigma.log() / 4
        x_0 = per_item(c_skip, x) * x + per_item(c_out, x) * self.net(
            per_item(c_in, x) * x, c_noise
        )
        return x_0 if self.limit is None else x_0.clamp(-self.limit, self.limit)


class _AtSteps:
    """A network that was trained at the noise levels of a table, on ``x_t = alpha x``."""

    def __init__(self, net: Network, noise_levels: Tensor) -> None:
        self.net = net
        self.log_levels = noise_levels.to(torch.float64).log()

    def _run(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the network's output, its input ``x_t`` and ``alpha: [batch]``."""
        alpha = (1 + sigma**2).rsqrt()
        x_t = per_item(alpha, x) * x
        return self.net(x_t, _condition(self.log_levels, sigma)), x_t, alpha


class EpsDenoiser(_AtSteps):
    """Adapts a network that predicts eps of ``x_t = alpha x_0 + sigma eps`` (arXiv 2006.11239).

    ``noise_levels: [N]``, ascending: ``noise_levels[n]`` is the ratio sigma/alpha at which the
    network was trained with the condition ``n``. It is the network's own table, not the sampling
    schedule: a pixel network trained on steps 0..999 was not trained at the clean level, so its
    table is ``NoiseSchedule.linear().noise_level[1:]``. Other levels take the nearest by ratio.
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = _one_per_item(sigma, x)
        eps, _, _ = self._run(x, sigma)
        return x - per_item(sigma, x) * eps


class VDenoiser(_AtSteps):
    """Adapts a network that predicts ``v = alpha eps - sigma x_0`` (arXiv 2202.00512, Appendix D).

    With ``x_t = alpha x`` it returns ``x_0 = alpha x_t - sigma_t v``. ``noise_levels`` are those
    of ``EpsDenoiser``.
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = _one_per_item(sigma, x)
        v, x_t, alpha = self._run(x, sigma)
        return per_item(alpha, x) * x_t - per_item(alpha * sigma, x) * v


class SampleDenoiser(_AtSteps):
    """Adapts a network that predicts ``x_0`` itself from ``x_t = alpha x_0 + sigma eps``.

    ``noise_levels`` are those of ``EpsDenoiser``.
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._run(x, _one_per_item(sigma, x))[0]


class CallCounter:
    """Wraps a denoiser or network and counts its calls; a batch counts once.

    ``gradient`` counts the calls whose result has a graph, ``forward`` all others: the two columns
    of the paper's costs. ``backward`` counts the vector-Jacobian products, of which one call may
    have several or none. All other attributes are those of the wrapped object.

    With ``timed`` set, ``seconds`` adds up the wall time inside the network. A backward pass is
    timed from the moment the gradient of a result is complete to the moment the gradient of ``x``
    is; autograd's work between ``x`` and the sampler's own variables counts as the sampler's. An
    accelerator is synchronised before the clock is read, so that the time includes its queue.
    """

    def __init__(self, denoiser: Any) -> None:
        self.denoiser = denoiser
        self.forward = 0
        self.gradient = 0
        self.timed = False
        self.seconds = 0.0
        self.backward = 0
        self._lock = Lock()  # several threads may call at once

    def __call__(self, x: Tensor, sigma: Tensor, *rest: Any) -> Tensor:
        result: Tensor = self._call(self.denoiser, x, sigma, *rest)
        return result

    @property
    def counts(self) -> dict[str, int]:
        """Returns the three counts by name, for reports."""
        return {"forward": self.forward, "gradient": self.gradient, "backward": self.backward}

    @property
    def posterior(self) -> Callable[..., Any]:
        """The network's own ``posterior``, counted; AttributeError where the network has none."""
        return partial(self._call, self.denoiser.posterior)

    def _call(self, function: Callable[..., Any], x: Tensor, *rest: Any) -> Any:
        if torch.is_grad_enabled() and x.requires_grad:
            self._count("gradient")
            return self._with_backward(function, x, *rest)
        self._count("forward")
        return self._forward(function, x, *rest)

    def _count(self, kind: str) -> None:
        with self._lock:
            setattr(self, kind, getattr(self, kind) + 1)

    def _add(self, seconds: float) -> None:
        with self._lock:
            self.seconds += seconds

    def _now(self, x: Tensor) -> float:
        return _clock(x) if self.timed else 0.0

    def _forward(self, function: Callable[..., Any], x: Tensor, *rest: Any) -> Any:
        begun = self._now(x)
        result = function(x, *rest)
        self._add(self._now(x) - begun)
        return result

    def _with_backward(self, function: Callable[..., Any], x: Tensor, *rest: Any) -> Any:
        begun: list[float] = []  # the start of the backward pass that is running

        def enter(gradient: Tensor) -> None:
            if not begun:  # the gradient of another result may have arrived first
                begun.append(self._now(gradient))

        def leave(gradient: Tensor) -> None:
            if begun:  # empty where the function returned x itself, without a network
                self._add(self._now(gradient) - begun.pop())
                self._count("backward")

        # A view, because the gradient of x may have other terms, which would be complete later.
        x = x.view_as(x)
        x.register_hook(leave)
        result = self._forward(function, x, *rest)
        for part in _tensors(result):
            if part.requires_grad:
                part.register_hook(enter)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.denoiser, name)


def _tensors(result: Any) -> list[Tensor]:
    """Returns the tensors of a denoiser's result: a tensor, a tuple or a posterior's fields."""
    if isinstance(result, Tensor):
        return [result]
    parts = result if isinstance(result, tuple) else vars(result).values()
    return [part for part in parts if isinstance(part, Tensor)]


def _clock(x: Tensor) -> float:
    """Returns the time in seconds once the device of ``x`` has finished its queue."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    elif x.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _one_per_item(sigma: Tensor, x: Tensor) -> Tensor:
    return send(sigma.to(x.dtype), x.device).expand(x.shape[0])


def _condition(log_levels: Tensor, sigma: Tensor) -> Tensor:
    """Returns the index of the level nearest to each ``sigma`` by ratio: int64 ``[batch]``."""
    distance = (sigma.detach().cpu().double().log()[:, None] - log_levels.cpu()).abs()
    return distance.argmin(dim=1).to(sigma.device)
