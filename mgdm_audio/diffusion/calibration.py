"""A correction of the variances that a network reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.transfer import send

MODES = ("prior", "given")  # without the mixture, and with it


@dataclass(frozen=True)
class Calibration:
    """``v' = f v (v / m)^e``: fitted on data that the network was not trained on.

    m is a reference, the mean over bins of the variance that the spectrum alone would leave.
    ``factors`` f and ``exponents`` e: ``[2, levels, sources]``, without and with the mixture, at
    noise levels ``sigmas: [levels]``, rising; between them log f and e are linear in log sigma,
    beyond them constant. e is above -1: what is reported larger stays larger. Raises ``ValueError``
    for other shapes or values.
    """

    sigmas: Tensor
    factors: Tensor
    exponents: Tensor

    def __post_init__(self) -> None:
        levels = len(self.sigmas)
        if self.sigmas.ndim != 1 or levels < 1 or not bool((self.sigmas.diff() > 0).all()):
            raise ValueError("calibration: sigmas must rise")
        if self.factors.ndim != 3 or self.factors.shape[:2] != (2, levels):
            raise ValueError(f"calibration: factors are [2, {levels}, sources]")
        if self.exponents.shape != self.factors.shape or not bool((self.exponents > -1).all()):
            raise ValueError("calibration: give an exponent above -1 for each factor")
        if not bool((self.factors > 0).all() and (self.sigmas > 0).all()):
            raise ValueError("calibration: sigmas and factors must be above 0")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Calibration:
        """What :meth:`to_config` gave; KeyError where it lacks a part."""
        factors, exponents = (
            torch.tensor([config[key][mode] for mode in MODES]) for key in ("factors", "exponents")
        )
        return cls(torch.tensor(config["sigmas"]), factors, exponents)

    def to_config(self) -> dict[str, Any]:
        """JSON values; factors and exponents by mode, rows of sources by level."""
        return {
            "sigmas": self.sigmas.tolist(),
            "factors": dict(zip(MODES, self.factors.tolist(), strict=True)),
            "exponents": dict(zip(MODES, self.exponents.tolist(), strict=True)),
        }

    def at(self, sigma: Tensor, given: bool) -> tuple[Tensor, Tensor]:
        """f and e at ``sigma: []`` or ``[batch]``, each ``[batch or 1, sources]``."""
        own = (self.sigmas.log(), self.factors[int(given)].log(), self.exponents[int(given)])
        levels, factors, exponents = (send(x.to(sigma.dtype), sigma.device) for x in own)
        at = sigma.reshape(-1).log()
        if len(levels) == 1:
            return factors.exp().expand(len(at), -1), exponents.expand(len(at), -1)
        high = torch.searchsorted(levels, at).clamp(1, len(levels) - 1)
        share = ((at - levels[high - 1]) / (levels[high] - levels[high - 1])).clamp(0, 1)[:, None]
        between = [torch.lerp(x[high - 1], x[high], share) for x in (factors, exponents)]
        return between[0].exp(), between[1]

    def __call__(self, variance: Tensor, reference: Tensor, sigma: Tensor, given: bool) -> Tensor:
        """v' of ``variance: [batch, sources, frames, bins]``; ``reference: [.., sources, 1, 1]``.

        ``given``: whether the network saw the mixture.
        """
        factor, exponent = (x[:, :, None, None] for x in self.at(sigma, given))
        return factor * variance * (variance / reference) ** exponent

    def after(self, earlier: Calibration) -> Calibration:
        """The correction by ``earlier`` and then by this one; exact at this one's levels."""
        pairs = [earlier.at(self.sigmas, given) for given in (False, True)]
        factors, exponents = (torch.stack(x) for x in zip(*pairs, strict=True))
        joint = self.factors * factors ** (1 + self.exponents)
        power = (1 + self.exponents) * (1 + exponents)
        return Calibration(self.sigmas, joint, power - 1)
