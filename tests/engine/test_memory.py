"""Freed memory stays with the process, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from mgdm_audio.engine import memory

PAGES = """
import resource, sys, torch
from concurrent.futures import ThreadPoolExecutor
from mgdm_audio.engine.memory import keep_freed_memory
said = keep_freed_memory()
def faults():
    for _ in range(12):  # fragments beside the blocks fill the cache of the thread first
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)  # 64 MB, more than glibc keeps of its own accord
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
with ThreadPoolExecutor(1) as pool:
    count = pool.submit(faults).result() if sys.argv[1] == "thread" else faults()
print(said, count, sep="|")
"""


def faults(where: str, **environment: str) -> tuple[str, int]:
    own = ("MALLOC_", memory.VARIABLE)
    names = {k: v for k, v in os.environ.items() if not k.startswith(own)} | environment
    words = [sys.executable, "-c", PAGES, where]
    run = subprocess.run(words, env=names, capture_output=True, text=True, check=True)
    said, _, count = run.stdout.strip().partition("|")
    return said, int(count)


@pytest.mark.skipif(memory.platform.libc_ver()[0] != "glibc", reason="glibc's mallopt")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_block_that_is_taken_again_costs_no_page_faults(where: str) -> None:
    said, kept = faults(where)
    assert said == "glibc keeps freed memory"
    said, system = faults(where, MGDM_AUDIO_KEEP_MEMORY="0")
    assert said.startswith("the system's")
    # 20 blocks of 16384 pages of 4 kB, or of 32 huge ones; those that are kept are mapped already.
    assert system >= 20 * 32
    assert kept <= system / 10
    assert faults(where, MALLOC_TRIM_THRESHOLD_="131072")[0].startswith("the system's")
