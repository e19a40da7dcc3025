"""Which device to compute on, and why: a silent fallback to the CPU is a bug report in waiting."""

import platform

import torch

from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError

KINDS = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> tuple[torch.device, str]:
    """(device, reason). Raises UserError for a device that this machine does not offer."""
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
            # The nearest word to "gpu" would be "cpu".
            words = "; did you mean cuda or mps?" if name == "gpu" else nearest(name, KINDS)
            raise UserError(f"device {name!r} is unknown{words}") from None
        raise UserError(
            f"device {name!r}: {str(error).splitlines()[0]}; use --device auto or cpu"
        ) from None
    return device, "asked for"


def fast_precision(device: torch.device) -> str:
    """ "bfloat16" where matrix products in it are faster than in float32, else "float32"."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu" and platform.machine() in ("x86_64", "AMD64"):
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # not public
        return "bfloat16" if supported() else "float32"
    return "float32"
