"""A training run: a TOML file and folders of data -> a prior folder, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgdm_audio.config import apply_overrides, load_toml
from mgdm_audio.engine.memory import keep_freed_memory

Progress = Callable[[int, int, dict[str, float]], None]
"""Called with (steps done, steps in all, figures such as the loss)."""
Note = Callable[[str], None]
"""Called with a line for whoever watches the run."""


def train(
    config: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    overrides: Sequence[str] = (),
    init: str | Path | None = None,
    on_progress: Progress | None = None,
    on_note: Note = lambda line: None,
) -> Path:
    """Train a prior by denoising score matching; returns its folder, ``output``/prior.

    ``config``: a TOML file, or its content as a mapping: with a section [data], over stems
    (``StemRun``), with a key ``shape``, over images (``ImageRun``). ``output``: the run's folder,
    with log.jsonl and the state from which the same call goes on. ``overrides``:
    ``["schedule.steps=200"]``. ``init``: a prior over stems to start from, the name of a bundled
    one or a folder. Raises UserError, in one line, for settings that do not fit and data that
    cannot be used.
    """
    keep_freed_memory()
    where = "config" if isinstance(config, Mapping) else str(config)
    table = dict(config) if isinstance(config, Mapping) else load_toml(Path(config))
    table = apply_overrides(table, list(overrides))
    if "shape" in table:
        from mgdm_audio.training.image_run import run_images

        return run_images(table, Path(output), where, init, on_progress, on_note)
    from mgdm_audio.training.stem_run import run_stems

    return run_stems(table, Path(output), where, init, on_progress, on_note)
