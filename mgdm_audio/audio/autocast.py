"""Lower precision inside a network, and nowhere else."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor


class Autocast:
    """A network (or denoiser) whose matrix products run in ``dtype``; all else is passed through.

    A sampler runs outside: a weighted mixture is a matrix product too, and in 8 bits of mantissa
    its residual would be off by -50 dB of the mixture.
    """

    def __init__(self, network: Any, device_type: str, dtype: torch.dtype) -> None:
        self.network, self.device_type, self.dtype = network, device_type, dtype

    def __call__(self, x: Tensor, sigma: Tensor, *rest: Any) -> Tensor:
        result: Tensor = self._call(self.network, x, sigma, *rest)
        return result

    @property
    def posterior(self) -> Callable[..., Any]:
        """The network's own ``posterior``; missing where it has none."""
        return partial(self._call, self.network.posterior)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with torch.autocast(self.device_type, self.dtype):
            return function(*arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by copy and pickle before ``network`` is there
            raise AttributeError(name)
        return getattr(self.network, name)
