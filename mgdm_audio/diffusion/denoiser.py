"""The one contract every network is adapted to: ``D(x, sigma) = E[x_0 | x_0 + sigma eps = x]``.

The scale is variance exploding whatever the network was trained on, so a sampler never learns
which parameterisation it drives. Each adapter below does its change of variables once.
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
    """``D(x, sigma) = E[x_0 | x_0 + sigma eps = x]``."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``x: [batch, *event]``, ``sigma: []`` or ``[batch]``, > 0 -> ``[batch, *event]``."""
        ...


class EDMDenoiser:
    """Preconditioned network F of EDM (arXiv 2206.00364, Table 1).

    ``D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`` with ``c_skip = sd^2 / (sigma^2 + sd^2)``,
    ``c_out = sigma sd / sqrt(sigma^2 + sd^2)``, ``c_in = 1 / sqrt(sigma^2 + sd^2)`` and
    ``c_noise = log(sigma) / 4``, where ``sd = sigma_data`` is the data's standard deviation.
    ``limit``: the result is clamped to ``[-limit, limit]``; MSDM's public network wants 1.
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
        """What the network says, the ``x_t`` it was shown and ``alpha``, one per item."""
        alpha = (1 + sigma**2).rsqrt()
        x_t = per_item(alpha, x) * x
        return self.net(x_t, _condition(self.log_levels, sigma)), x_t, alpha


class EpsDenoiser(_AtSteps):
    """Network that predicts the noise of ``x_t = alpha x_0 + sigma eps`` (DDPM, arXiv 2006.11239).

    ``noise_levels: [N]``, ascending: ``noise_levels[n]`` is the ratio sigma/alpha at which the
    network was trained to see the condition ``n``. It is the network's own table, not the sampling
    schedule: a pixel network trained on steps 0..999 knows no clean level, so its table is
    ``NoiseSchedule.linear().noise_level[1:]``. A level off the table takes the nearest by ratio.
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = _one_per_item(sigma, x)
        eps, _, _ = self._run(x, sigma)
        return x - per_item(sigma, x) * eps


class VDenoiser(_AtSteps):
    """Network that predicts ``v = alpha eps - sigma x_0`` (arXiv 2202.00512, Appendix D).

    With ``x_t = alpha x``: ``x_0 = alpha x_t - sigma_t v``. ``noise_levels`` as in ``EpsDenoiser``.
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = _one_per_item(sigma, x)
        v, x_t, alpha = self._run(x, sigma)
        return per_item(alpha, x) * x_t - per_item(alpha * sigma, x) * v


class SampleDenoiser(_AtSteps):
    """Network that predicts ``x_0`` itself from ``x_t = alpha x_0 + sigma eps``.

    ``noise_levels`` as in ``EpsDenoiser``.
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._run(x, _one_per_item(sigma, x))[0]


class CallCounter:
    """A denoiser or network that counts how often it is called, a batch counting once.

    ``gradient`` counts the calls that a vector-Jacobian product may go back through, ``forward``
    all others: the two columns in which the paper's costs are given. ``backward`` counts the
    products themselves, of which one call may see several, or none. All else is passed through.

    With ``timed`` set, ``seconds`` adds up the wall time spent inside. A backward pass is timed
    from when the gradient of a result is complete, before it enters, to when the gradient of ``x``
    is; what autograd does between ``x`` and the sampler's own variables is the sampler's time. An
    accelerator is synchronised before the clock is read, so that its queue is in the time.
    """

    def __init__(self, denoiser: Any) -> None:
        self.denoiser = denoiser
        self.forward = 0
        self.gradient = 0
        self.timed = False
        self.seconds = 0.0
        self.backward = 0
        self._lock = Lock()  # of the numbers: there may be several callers at a time

    def __call__(self, x: Tensor, sigma: Tensor, *rest: Any) -> Tensor:
        result: Tensor = self._call(self.denoiser, x, sigma, *rest)
        return result

    @property
    def counts(self) -> dict[str, int]:
        """All three numbers by name, for reports."""
        return {"forward": self.forward, "gradient": self.gradient, "backward": self.backward}

    @property
    def posterior(self) -> Callable[..., Any]:
        """The network's own ``posterior`` (a call like any other); missing where it has none."""
        return partial(self._call, self.denoiser.posterior)

    def _call(self, function: Callable[..., Any], x: Tensor, *rest: Any) -> Any:
        if torch.is_grad_enabled() and x.requires_grad:
            self._count("gradient")
            return self._both_ways(function, x, *rest)
        self._count("forward")
        return self._forth(function, x, *rest)

    def _count(self, way: str) -> None:
        with self._lock:
            setattr(self, way, getattr(self, way) + 1)

    def _add(self, seconds: float) -> None:
        with self._lock:
            self.seconds += seconds

    def _now(self, x: Tensor) -> float:
        return _clock(x) if self.timed else 0.0

    def _forth(self, function: Callable[..., Any], x: Tensor, *rest: Any) -> Any:
        begun = self._now(x)
        result = function(x, *rest)
        self._add(self._now(x) - begun)
        return result

    def _both_ways(self, function: Callable[..., Any], x: Tensor, *rest: Any) -> Any:
        begun: list[float] = []  # when the backward pass under way came in

        def enter(gradient: Tensor) -> None:
            if not begun:  # else another of the results came first
                begun.append(self._now(gradient))

        def leave(gradient: Tensor) -> None:
            if begun:  # else no network was between: x came back as it went in
                self._add(self._now(gradient) - begun.pop())
                self._count("backward")

        # A tensor of our own: the gradient of x itself may have other terms, and be complete late.
        x = x.view_as(x)
        x.register_hook(leave)
        result = self._forth(function, x, *rest)
        for part in _tensors(result):
            if part.requires_grad:
                part.register_hook(enter)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.denoiser, name)


def _tensors(result: Any) -> list[Tensor]:
    """What a denoiser returns: a tensor, a tuple of them, or a posterior, which has some."""
    if isinstance(result, Tensor):
        return [result]
    parts = result if isinstance(result, tuple) else vars(result).values()
    return [part for part in parts if isinstance(part, Tensor)]


def _clock(x: Tensor) -> float:
    """Seconds, once all that was asked of the device of ``x`` is done."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    elif x.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _one_per_item(sigma: Tensor, x: Tensor) -> Tensor:
    return send(sigma.to(x.dtype), x.device).expand(x.shape[0])


def _condition(log_levels: Tensor, sigma: Tensor) -> Tensor:
    """``[batch]`` int64: the table's index nearest to each ``sigma`` by ratio."""
    distance = (sigma.detach().cpu().double().log()[:, None] - log_levels.cpu()).abs()
    return distance.argmin(dim=1).to(sigma.device)
