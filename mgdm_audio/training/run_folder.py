"""The folder of a training run, which one run works in at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgdm_audio.atomic import sweep
from mgdm_audio.engine.locks import lock


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Keep the folder to this run, and clear it of what killed ones left half-written.

    Of the processes of one run, the first one writes and has the lock. Raises UserError where
    another run has it, and where the folder cannot be written to.
    """
    if os.environ.get("RANK", "0") != "0":  # torchrun's
        yield
        return
    with lock(folder, "training there"):
        sweep(folder)
        yield
