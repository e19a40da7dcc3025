"""Measures peak memory, where the system reports it."""

import contextlib
import ctypes
import gc
import re
from pathlib import Path

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the peak memory in bytes from its creation to ``read()``.

    On CUDA it is that of all tensors; on Linux that of the process's resident set, which includes
    Python, its libraries and everything allocated before, after freed memory has been returned to
    the system as far as the allocator can. It is None elsewhere, and if the kernel cannot reset it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.known = device, False
        gc.collect(1)  # objects of the last row are young; a full collection takes 0.2 seconds
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.known = True
        elif device.type == "cpu":
            with contextlib.suppress(OSError, AttributeError):  # only glibc has it
                ctypes.CDLL(None).malloc_trim(0)
            with contextlib.suppress(OSError):
                CLEAR_REFS.write_text("5")  # resets VmHWM to the current resident set
                self.known = True

    def read(self) -> int | None:
        if not self.known:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
        return 1024 * int(found[1]) if found else None
