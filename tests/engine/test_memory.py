"""Freed memory stays with the process, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from mgdm_audio.engine import memory

PAGES = """
import resource, sys, torch
from mgdm_audio.engine.memory import keep_freed_memory
said = keep_freed_memory()
for _ in range(3):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)  # 64 MB, more than glibc keeps of its own accord
print(said, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, sep="|")
"""


def faults(**environment: str) -> tuple[str, int]:
    names = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment
    run = subprocess.run([sys.executable, "-c", PAGES], env=names, capture_output=True, text=True)
    said, _, count = run.stdout.strip().partition("|")
    return said, int(count)


@pytest.mark.skipif(memory.platform.libc_ver()[0] != "glibc", reason="glibc's mallopt")
def test_a_block_that_is_taken_again_costs_no_page_faults() -> None:
    said, kept = faults()
    assert said == "glibc keeps freed memory"
    said, system = faults(MGDM_AUDIO_KEEP_MEMORY="0")
    assert said.startswith("the system's")
    # 20 blocks of 16384 pages of 4 kB, or of 32 huge ones; those that are kept are mapped already.
    assert system >= 20 * 32
    assert kept <= system / 10
    assert faults(MALLOC_TRIM_THRESHOLD_="131072")[0].startswith("the system's")
