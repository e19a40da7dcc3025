"""A noise schedule is the table of levels along which a diffusion prior is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

MOST_LEVELS = 10**6  # of a table; the largest published one has 4000
Level = int | Tensor
"""A level is an index into the schedule: an ``int`` for the batch, or int64 ``[batch]``."""


def karras_levels(high: float, low: float, num_levels: int, rho: float) -> list[float]:
    """Returns noise levels from ``high`` to ``low``, equally spaced in sigma^(1 / rho).

    A single level is ``high``. This is EDM's grid (arXiv 2206.00364, eq. 5), for samplers whose
    levels are given by sigma.
    """
    top, bottom = high ** (1 / rho), low ** (1 / rho)
    return [(top + i / max(num_levels - 1, 1) * (bottom - top)) ** rho for i in range(num_levels)]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Holds the levels ``t = 0..T`` of the process ``x_t = alpha_t x_0 + sigma_t eps``.

    It is variance preserving: ``alpha^2 + sigma^2 = 1``. Level 0 is clean (``alpha_0 = 1``,
    ``sigma_0 = 0``), and sigma / alpha rises strictly. Raises ``ValueError`` for other tables.

    The tables stay float64 on the CPU and are cast when they multiply a state. In float32,
    ``1 - alpha^2`` is 18 % wrong at the smallest levels of the audio grid.
    """

    alpha: Tensor  # [T+1], float64
    sigma: Tensor  # [T+1], float64
    config: Mapping[str, Any] | None = field(default=None, repr=False)  # see ``to_config``

    def __post_init__(self) -> None:
        alpha, sigma = self.alpha, self.sigma
        if alpha.dtype != torch.float64 or sigma.dtype != torch.float64:
            raise ValueError("a noise schedule is float64")
        if alpha.ndim != 1 or alpha.shape != sigma.shape or len(alpha) < 2:
            raise ValueError("alpha and sigma are two tables [T+1] with T >= 1")
        if len(alpha) > MOST_LEVELS + 1:
            raise ValueError(f"a noise schedule has at most {MOST_LEVELS} levels")
        if not bool(alpha.isfinite().all() and sigma.isfinite().all()):
            raise ValueError("a noise schedule is finite")
        if alpha[0] != 1 or sigma[0] != 0:
            raise ValueError("level 0 is clean: alpha[0] = 1 and sigma[0] = 0")
        if not bool((self.noise_level.diff() > 0).all()):
            raise ValueError("the noise level sigma/alpha must rise with the index")

    @classmethod
    def karras(
        cls,
        sigma_min: float = 5e-4,
        sigma_max: float = 20.0,
        rho: float = 3.0,
        num_levels: int = 1000,
    ) -> NoiseSchedule:
        """Returns EDM's grid (arXiv 2206.00364, eq. 5) prefixed by 0, by default that for audio.

        ``noise_level_i = (sigma_min^(1/rho) + (i-1)/(T-1) (sigma_max^(1/rho) -
        sigma_min^(1/rho)))^rho`` for ``i = 1..T``, mapped to variance preserving.
        """
        low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
        level = torch.linspace(low, high, num_levels, dtype=torch.float64) ** rho
        config = {
            "kind": "karras",
            "sigma_min": sigma_min,
            "sigma_max": sigma_max,
            "rho": rho,
            "num_levels": num_levels,
        }
        return cls.from_noise_levels(torch.cat([level.new_zeros(1), level]), config)

    @classmethod
    def linear(
        cls, beta_start: float = 1e-4, beta_end: float = 2e-2, num_levels: int = 1000
    ) -> NoiseSchedule:
        """Returns DDPM's schedule (arXiv 2006.11239), ``alpha_t^2 = prod_{i<=t} (1 - beta_i)``.

        ``alpha_t^2`` is kept >= 1e-6. The clean level comes first, so level ``t`` is DDPM's index
        ``t - 1``.
        """
        beta = torch.linspace(beta_start, beta_end, num_levels, dtype=torch.float64)
        alpha_bar = (1 - beta).cumprod(0).clamp(min=1e-6)
        alpha_bar = torch.cat([alpha_bar.new_ones(1), alpha_bar])
        config = {
            "kind": "linear",
            "beta_start": beta_start,
            "beta_end": beta_end,
            "num_levels": num_levels,
        }
        return cls(alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), config)

    @classmethod
    def from_noise_levels(
        cls, noise_level: Tensor, config: Mapping[str, Any] | None = None
    ) -> NoiseSchedule:
        """Returns the schedule with the ratios sigma / alpha ``noise_level: [T+1]``, float64.

        Raises ``ValueError`` unless ``noise_level[0] = 0`` and the ratios rise.
        """
        alpha = (1 + noise_level**2).rsqrt()
        return cls(alpha, noise_level * alpha, config)

    @cached_property
    def noise_level(self) -> Tensor:
        """``sigma / alpha``: ``[T+1]`` float64, so that ``x_t / alpha_t = x_0 + level_t eps``."""
        return self.sigma / self.alpha

    @property
    def num_levels(self) -> int:
        """``T``, the index of the noisiest level."""
        return len(self.alpha) - 1

    def timesteps(self, num_steps: int) -> list[int]:
        """Returns the grid of N = ``num_steps`` levels ``floor(j (T-1) / (N-1))``, ``j = 0..N-1``.

        It ascends from 0 to ``T-1``: level ``T`` only scales the initial noise. Raises
        ``ValueError`` unless ``2 <= N <= T``.
        """
        if not 2 <= num_steps <= self.num_levels:
            raise ValueError(f"{num_steps} steps: this schedule takes 2 to {self.num_levels}")
        return [j * (self.num_levels - 1) // (num_steps - 1) for j in range(num_steps)]

    def nearest(self, noise_level: float) -> int:
        """Returns the level t whose sigma / alpha is nearest to ``noise_level`` by ratio.

        A ``noise_level`` of 0 or less returns 0.
        """
        if noise_level <= 0:
            return 0
        distance = (self.noise_level[1:] / noise_level).log().abs()
        return int(distance.argmin()) + 1

    def to_config(self) -> dict[str, Any]:
        """Returns JSON values from which ``from_config`` makes this schedule."""
        if self.config is not None:
            return dict(self.config)
        return {"kind": "table", "noise_level": self.noise_level.tolist()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """The inverse of ``to_config``. Raises ``ValueError`` on an unknown kind or option."""
        if not isinstance(config, Mapping):
            raise ValueError(f"noise schedule {config!r}: is no table")
        options = dict(config)
        kind = options.pop("kind", None)
        if kind in ("karras", "linear"):
            _check_options(str(kind), options)
        try:
            if kind == "karras":
                return cls.karras(**options)
            if kind == "linear":
                return cls.linear(**options)
            if kind == "table":
                table = torch.tensor(options.pop("noise_level"), dtype=torch.float64)
                return cls.from_noise_levels(table, **options)
        except (TypeError, KeyError, RuntimeError, ArithmeticError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"noise schedule '{kind}': {reason}") from error
        raise ValueError(f"unknown noise schedule '{kind}'; known: karras, linear, table")


def _check_options(kind: str, options: Mapping[str, Any]) -> None:
    """ValueError unless they are numbers that make a table. Unknown ones are found later."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise ValueError(f"noise schedule '{kind}': {name} = {value!r}: give a positive number")
    if not isinstance(levels := options.get("num_levels", 1), int) or levels > MOST_LEVELS:
        raise ValueError(f"noise schedule '{kind}': num_levels is whole, at most {MOST_LEVELS}")
