"""Former names of what a ``Separator`` does, for one version more."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from mgdm_audio.engine.runner import Progress
from mgdm_audio.output.layout import Layout
from mgdm_audio.separation.result import Separation


class FormerNames:
    """Each warns, and calls ``separate``."""

    @abstractmethod
    def separate(
        self,
        source: Any,
        sample_rate: int | None = None,
        *,
        seed: int = 0,
        draws: int | None = None,
        keep_draws: bool = False,
        two_stems: str | None = None,
        folder: str | Path | None = None,
        on_progress: Progress | None = None,
    ) -> Separation: ...

    def separate_audio(
        self,
        samples: Tensor,
        sample_rate: int,
        *,
        seed: int = 0,
        draws: int | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Tensor]:
        """Former name of ``separate(samples, sample_rate, ...).stems``."""
        _warn("separate_audio(samples, rate)", "separate(samples, rate).stems")
        found = self.separate(samples, sample_rate, seed=seed, draws=draws, on_progress=on_progress)
        return dict(found.stems)

    def posterior(
        self,
        samples: Tensor,
        sample_rate: int,
        *,
        seed: int = 0,
        draws: int | None = None,
        keep_draws: bool = False,
        on_progress: Progress | None = None,
    ) -> Separation:
        """Former name of ``separate(samples, sample_rate, ...)``."""
        _warn("posterior(samples, rate)", "separate(samples, rate)")
        return self.separate(
            samples,
            sample_rate,
            seed=seed,
            draws=draws,
            keep_draws=keep_draws,
            on_progress=on_progress,
        )

    def separate_file(
        self,
        path: str | Path,
        *,
        seed: int = 0,
        draws: int | None = None,
        keep_draws: bool = False,
        on_progress: Progress | None = None,
    ) -> Separation:
        """Former name of ``separate(path, ...)``."""
        _warn("separate_file(path)", "separate(path)")
        return self.separate(
            path, seed=seed, draws=draws, keep_draws=keep_draws, on_progress=on_progress
        )


def separate_to_files(
    separator: FormerNames,
    path: str | Path,
    layout: Layout,
    *,
    subtype: str = "PCM_24",
    seed: int = 0,
    draws: int | None = None,
    keep_draws: bool = False,
    two_stems: str | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Former name of ``separate(path, folder=layout.root, ...).save(layout, subtype)``."""
    with separator.separate(
        path,
        seed=seed,
        draws=draws,
        keep_draws=keep_draws,
        two_stems=two_stems,
        folder=layout.root,
        on_progress=on_progress,
    ) as found:
        return found.save(layout, subtype)


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"Separator.{old} goes in the next version; write {new}", DeprecationWarning, stacklevel=3
    )
