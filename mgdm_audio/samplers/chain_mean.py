"""The running mean of a Gibbs chain, and a posterior sample for its uncertainty."""

from __future__ import annotations

import torch
from torch import Tensor

from mgdm_audio.rng import Generators, randint
from mgdm_audio.tensors import per_item

_FINE = 1 << 24  # probabilities are multiples of 1 / _FINE


class ChainMean:
    """Averages m = E[x_0 | x_s, y] over sweeps, for every item over the sweeps selected for it.

    Until a sweep is selected, the value of an item is the m of its last sweep.
    """

    def __init__(self, generator: Generators) -> None:
        self.generator = generator
        self.value: Tensor | None = None  # [batch, *event]
        self._count = torch.zeros(())  # the number of selected sweeps, [batch]
        self._drawn: Tensor | None = None  # a draw of x_0 given x_s and y of one of these sweeps

    def add(self, m: Tensor, deviation: Tensor | None, counts: Tensor) -> None:
        """Adds the m of a sweep and, if available, a draw of x_0 given x_s and y minus m.

        ``m``, ``deviation`` (that difference): ``[batch, *event]``; ``counts: [batch]``, boolean:
        whether the sweep is selected.
        """
        self._count = self._count + counts
        share = torch.where(self._count > 0, counts / self._count.clamp(min=1), 1.0)
        value = m if self.value is None else self.value
        self.value = value + per_item(share, m) * (m - value)
        if deviation is None:
            return
        drawn = m + deviation
        # Reservoir sampling (Vitter 1985) keeps every selected sweep with the same probability.
        dice = randint(0, _FINE, batch=len(m), generator=self.generator)
        taken = per_item(dice < share * _FINE, m) > 0
        self._drawn = drawn if self._drawn is None else torch.where(taken, drawn, self._drawn)

    @property
    def deviation(self) -> Tensor | None:
        """``Step.deviation``: a draw of x_0 given x_s and y minus the mean, ``[batch, *event]``.

        Its sweep is chosen uniformly among the selected ones, so it is a draw of x_0 given y whose
        mean given the chain is the average. The expectation of its square is the average of
        Var(x_0 | x_s, y) plus the variance of m over sweeps; adding the variance of the average
        over chains gives Var(x_0 | y) (law of total variance).
        """
        return None if self._drawn is None else self._drawn - self.value  # type: ignore[operator]
