"""The choice of the device, and of the precision inside a network."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.config import nearest
from mgdm_audio.diffusion import CallCounter, Prior
from mgdm_audio.diffusion.counting import counted
from mgdm_audio.errors import UserError

KINDS = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> tuple[torch.device, str]:
    """Returns (device, reason). Raises UserError for a device that this machine does not have."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"auto: {torch.cuda.get_device_name()}"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "auto: Apple GPU"
        return torch.device("cpu"), f"auto: no GPU that torch {torch.__version__} can use"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a meta device has no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        if name.partition(":")[0] not in KINDS:
            # Without this case the suggestion for "gpu" would be "cpu".
            words = "; did you mean cuda or mps?" if name == "gpu" else nearest(name, KINDS)
            raise UserError(f"device {name!r} is unknown{words}") from None
        raise UserError(
            f"device {name!r}: {str(error).splitlines()[0]}; use --device auto or cpu"
        ) from None
    return device, "asked for"


def signal_device(device: torch.device) -> torch.device:
    """Returns the device of noise and signal processing beside a network on ``device``.

    It is a CUDA device itself, so that no draw waits for the CPU. Else it is the CPU: Apple's GPUs
    lack float64.
    """
    return device if device.type == "cuda" else torch.device("cpu")


def fast_precision(device: torch.device) -> str:
    """Returns "bfloat16" if its matrix products are faster than in float32, else "float32"."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu" and platform.machine() in ("x86_64", "AMD64"):
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # private API
        return "bfloat16" if supported() else "float32"
    return "float32"


class Autocast:
    """Wraps a network (or denoiser) so that its matrix products run in ``dtype``.

    All other attributes are the network's. The sampler itself is not wrapped: a weighted mixture is
    a matrix product too, and 8 bits of mantissa would give its residual an error of -50 dB.
    """

    def __init__(self, network: Any, device_type: str, dtype: torch.dtype) -> None:
        self.network, self.device_type, self.dtype = network, device_type, dtype

    def __call__(self, x: Tensor, sigma: Tensor, *rest: Any) -> Tensor:
        result: Tensor = self._call(self.network, x, sigma, *rest)
        return result

    @property
    def posterior(self) -> Callable[..., Any]:
        """The network's own ``posterior``; AttributeError where it has none."""
        return partial(self._call, self.network.posterior)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with torch.autocast(self.device_type, self.dtype):
            return function(*arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy and pickle request these before ``network`` is set
            raise AttributeError(name)
        return getattr(self.network, name)


def at_precision(
    prior: Prior, device: torch.device, precision: str
) -> tuple[Prior, CallCounter, str]:
    """Returns the prior at a precision, the counter of its network's calls, and the precision.

    ``precision``: "float32", "bfloat16" (within the network alone) or "auto", which
    is the faster one on the device. Raises UserError for another.
    """
    precision = fast_precision(device) if precision == "auto" else precision
    if precision not in ("float32", "bfloat16"):
        raise UserError(f"precision {precision!r}: use float32, bfloat16 or auto")
    prior, calls = counted(prior)
    if precision == "bfloat16":
        calls.denoiser = Autocast(calls.denoiser, device.type, torch.bfloat16)
    return prior, calls, precision
