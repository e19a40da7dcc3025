"""The largest memory in use between two moments, where the system tells it."""

import contextlib
import ctypes
import gc
import re
from pathlib import Path

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The peak from here on to ``read()``, in bytes.

    On CUDA of all tensors together. On Linux of the process's resident set, which holds Python, its
    libraries and all that was there before; what earlier work has freed is first given back, as far
    as the allocator lets go of it. None elsewhere, and where the kernel resets no peak.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.known = device, False
        gc.collect(1)  # what the last row left is young; all objects take a fifth of a second
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.known = True
        elif device.type == "cpu":
            with contextlib.suppress(OSError, AttributeError):  # glibc's alone
                ctypes.CDLL(None).malloc_trim(0)
            with contextlib.suppress(OSError):
                CLEAR_REFS.write_text("5")  # VmHWM starts again from what is resident now
                self.known = True

    def read(self) -> int | None:
        if not self.known:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
        return 1024 * int(found[1]) if found else None
