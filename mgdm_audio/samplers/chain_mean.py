"""The mean of a chain, sweep by sweep, and a draw that says how uncertain it is."""

from __future__ import annotations

import torch
from torch import Tensor

from mgdm_audio.rng import Generators, randint
from mgdm_audio.tensors import per_item

_FINE = 1 << 24  # chances are multiples of 1 / _FINE


class ChainMean:
    """The average over sweeps of m = E[x_0 | x_s, y], for every item over the sweeps that count.

    An item for which none counted so far has the m of its last sweep.
    """

    def __init__(self, generator: Generators) -> None:
        self.generator = generator
        self.value: Tensor | None = None  # [batch, *event]
        self._count = torch.zeros(())  # sweeps, [batch]
        self._drawn: Tensor | None = None  # of x_0 given x_s and y, from one of these sweeps

    def add(self, m: Tensor, deviation: Tensor | None, counts: Tensor) -> None:
        """One sweep's m, a draw of x_0 given x_s and y less m if it is known, and ``counts``.

        ``m``, ``deviation``: ``[batch, *event]``; ``counts: [batch]``, boolean: does it count?
        """
        self._count = self._count + counts
        share = torch.where(self._count > 0, counts / self._count.clamp(min=1), 1.0)
        value = m if self.value is None else self.value
        self.value = value + per_item(share, m) * (m - value)
        if deviation is None:
            return
        drawn = m + deviation
        # Reservoir sampling (Vitter 1985): every sweep that counts is kept with the same chance.
        dice = randint(0, _FINE, batch=len(m), generator=self.generator)
        taken = per_item(dice < share * _FINE, m) > 0
        self._drawn = drawn if self._drawn is None else torch.where(taken, drawn, self._drawn)

    @property
    def deviation(self) -> Tensor | None:
        """``Step.deviation``: a draw of x_0 given x_s and y, less the average: ``[batch, *event]``.

        Its sweep is any of those that count, with the same chance, so that the draw is one of x_0
        given y whose mean given the chain is the average. Its square is, in the mean, the average
        of Cov(x_0 | x_s, y) plus the variance of m over sweeps; with the variance of the average
        over chains it makes up Var(x_0 | y) (the law of total variance).
        """
        return None if self._drawn is None else self._drawn - self.value  # type: ignore[operator]
