"""Freed memory kept for the next network call, where the C library is glibc.

By default glibc returns every large block to the system when it is freed, and a network call takes
the same blocks again, page by page: on two cores of a Zen 3 that was a fifth of the time of a call.
Results are the same to the bit; the largest memory in use does not change.
"""

import ctypes
import os
import platform

VARIABLE = "MGDM_AUDIO_KEEP_MEMORY"  # 0 leaves the allocator alone
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_freed_memory() -> str:
    """Set glibc's thresholds for this process, and say in a few words what was done.

    The environment variable ``MGDM_AUDIO_KEEP_MEMORY=0`` turns it off, and values of glibc's own
    variables (``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_``) are left as they are.
    """
    if os.environ.get(VARIABLE) == "0":
        return f"the system's ({VARIABLE}=0)"
    if any(f"MALLOC_{name}_THRESHOLD_" in os.environ for name in ("MMAP", "TRIM")):
        return "the system's (MALLOC_*_THRESHOLD_ is set)"
    if platform.libc_ver()[0] != "glibc":
        return "the system's (not glibc)"
    mallopt = ctypes.CDLL(None).mallopt
    done = mallopt(_MMAP_THRESHOLD, 2**30) and mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    return "glibc keeps freed memory" if done else "the system's (glibc refused)"
