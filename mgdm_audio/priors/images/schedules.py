"""Converts the noise schedules of diffusers (``scheduler_config.json``) to ``NoiseSchedule``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.diffusion import NoiseSchedule

FLOOR = 1e-6  # the least alpha^2, as in NoiseSchedule.linear


def schedule_of(config: Mapping[str, Any]) -> NoiseSchedule:
    """Returns the levels ``alpha_t^2 = prod_{n < t} (1 - beta_n)`` in float64, level 0 clean.

    It reads the schedulers with a ``beta_schedule`` (DDPM, DDIM, PNDM, Euler, DPM-Solver, ...), for
    networks trained at discrete steps. Settings of the scheduler's own sampling (clipping,
    thresholding, spacing) are ignored. Raises ``ValueError`` for others.
    """
    if "beta_schedule" not in config and "trained_betas" not in config:
        name = config.get("_class_name", "the scheduler")
        raise ValueError(f"{name} has no beta_schedule; give a prior trained at discrete steps")
    if config.get("rescale_betas_zero_snr"):
        raise ValueError("rescale_betas_zero_snr: a top level without signal is not supported")
    if config.get("timestep_type") == "continuous":
        raise ValueError("timestep_type 'continuous': give a prior trained at discrete steps")
    beta = _betas(config)
    if beta.ndim != 1 or len(beta) < 2 or not bool(((beta > 0) & (beta < 1)).all()):
        raise ValueError("betas are two or more numbers between 0 and 1")
    alpha_bar = (1 - beta).cumprod(0)
    if alpha_bar[-1] < FLOOR:  # several levels at the floor would not be distinct
        floor = FLOOR * torch.linspace(2, 1, len(beta), dtype=torch.float64)
        alpha_bar = torch.maximum(alpha_bar, floor)
    alpha_bar = torch.cat([alpha_bar.new_ones(1), alpha_bar])
    return NoiseSchedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def _betas(config: Mapping[str, Any]) -> Tensor:
    """Returns the betas: ``[steps]`` float64."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    kind, steps = config["beta_schedule"], int(config.get("num_train_timesteps", 1000))
    # The defaults of diffusers, whose config files may omit them.
    start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    if kind == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if kind == "scaled_linear":  # the square root is linear (latent diffusion)
        return torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":  # Nichol and Dhariwal (arXiv 2102.09672), eq. 17
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        alpha_bar = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
    raise ValueError(
        f"beta_schedule {kind!r}; known: linear, scaled_linear, squaredcos_cap_v2, trained_betas"
    )
