"""The kernels of the noising process: forward, bridge, and DDIM, which is a bridge ending at 0.

For levels ``s <= t <= u`` of a schedule, with ``r_st = alpha_t / alpha_s`` and the forward
kernel's variance ``v_st = sigma_t^2 - r_st^2 sigma_s^2``:

    q(x_t | x_s)           = N(r_st x_s, v_st I)
    q^eta(x_t | x_s, x_u)  = N(c_s x_s + c_u x_u, std^2 I)
    std^2 = eta^2 v_tu v_st / v_su
    c_u   = sqrt((v_st - std^2) / v_su)
    c_s   = r_st - c_u r_su

At ``eta = 1`` the bridge is the exact conditional of the forward chain; for every ``eta`` it keeps
the marginal: x_u drawn from q(x_u | x_s) gives x_t distributed as q(x_t | x_s) (DDIM, arXiv
2010.02502, eq. 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from mgdm_audio.diffusion.prior import Prior
from mgdm_audio.diffusion.schedule import Level, NoiseSchedule
from mgdm_audio.rng import Generators, randn_like
from mgdm_audio.tensors import per_item


class BridgeCoefficients(NamedTuple):
    """Holds the coefficients of ``q(x_t | x_s, x_u) = N(c_s x_s + c_u x_u, std^2 I)``.

    They are floats when the three levels are ints, float64 ``[batch]`` when one is per item.
    """

    c_s: float | Tensor
    c_u: float | Tensor
    std: float | Tensor

    def mean(self, x_s: Tensor, x_u: Tensor) -> Tensor:
        """Returns ``c_s x_s + c_u x_u``: ``[batch, *event]``."""
        return per_item(self.c_s, x_s) * x_s + per_item(self.c_u, x_u) * x_u


def bridge(
    schedule: NoiseSchedule, s: Level, t: Level, u: Level, eta: float = 1.0
) -> BridgeCoefficients:
    """Returns the coefficients of ``q^eta(x_t | x_s, x_u)``, ``s <= t <= u``, in float64.

    At ``t = s`` the kernel is ``x_s`` and at ``t = u`` it is ``x_u``, both without noise. Raises
    ``ValueError`` when the levels are out of order or ``eta`` is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta} is outside [0, 1]")
    r_st, v_st = _forward(schedule, s, t)
    r_tu, v_tu = _forward(schedule, t, u)
    r_su, v_su = _forward(schedule, s, u)
    share = torch.where(v_su > 0, v_st / v_su, 0.0)
    # v_st - std^2 with v_su = v_tu + r_tu^2 v_st substituted: all terms are positive, none cancel.
    c_u = (share * (1 - eta**2 + eta**2 * r_tu**2 * share)).sqrt()
    std = eta * (share * v_tu).sqrt()
    c_s = r_st - c_u * r_su
    if isinstance(s, int) and isinstance(t, int) and isinstance(u, int):
        return BridgeCoefficients(float(c_s), float(c_u), float(std))
    return BridgeCoefficients(c_s, c_u, std)


def sample_bridge(
    schedule: NoiseSchedule,
    x_s: Tensor,
    x_u: Tensor,
    s: Level,
    t: Level,
    u: Level,
    *,
    eta: float = 1.0,
    generator: Generators,
) -> Tensor:
    """Draws ``x_t ~ q^eta(x_t | x_s, x_u)``: ``[batch, *event]``."""
    kernel = bridge(schedule, s, t, u, eta)
    mean = kernel.mean(x_s, x_u)
    # A std that is 0 for one item only must not skip the draw: all generators advance together.
    if isinstance(kernel.std, float) and kernel.std == 0:
        return mean
    return mean + per_item(kernel.std, mean) * randn_like(mean, generator)


def sample_forward(
    schedule: NoiseSchedule, x_s: Tensor, s: Level, t: Level, *, generator: Generators
) -> Tensor:
    """Draws ``x_t ~ q(x_t | x_s)``, ``s <= t``: ``[batch, *event]``."""
    ratio, variance = _forward(schedule, s, t)
    noise = randn_like(x_s, generator)
    return per_item(ratio, x_s) * x_s + per_item(variance.sqrt(), x_s) * noise


def ddim_step(
    prior: Prior, x_u: Tensor, u: Level, t: Level, *, eta: float = 1.0, generator: Generators
) -> Tensor:
    """Takes one DDIM step from level ``u`` to ``t``: a draw of the bridge from ``x_0 = D(x_u)``.

    Returns ``[batch, *event]``; a step to ``t = 0`` returns ``D(x_u)`` itself.
    """
    x_0 = prior.predict_x0(x_u, u)
    return sample_bridge(prior.schedule, x_0, x_u, 0, t, u, eta=eta, generator=generator)


def ddim(
    prior: Prior, x: Tensor, levels: Sequence[Level], *, eta: float = 1.0, generator: Generators
) -> Tensor:
    """Runs DDIM along the descending ``levels``, of which ``x`` has the first.

    Returns ``[batch, *event]`` at the last level, after ``len(levels) - 1`` denoiser calls.
    """
    for u, t in pairwise(levels):
        x = ddim_step(prior, x, u, t, eta=eta, generator=generator)
    return x


def _forward(schedule: NoiseSchedule, s: Level, t: Level) -> tuple[Tensor, Tensor]:
    """Returns scale and variance of ``q(x_t | x_s)``, float64 ``[]`` or ``[batch]``."""
    alpha, level = schedule.alpha, schedule.noise_level
    low, high = level[s], level[t]
    if bool((low > high).any()):
        raise ValueError(f"levels out of order: {s} > {t}")
    # alpha_t^2 (level_t^2 - level_s^2), factored so that neighbouring levels lose no digits.
    return alpha[t] / alpha[s], alpha[t] ** 2 * (high - low) * (high + low)
