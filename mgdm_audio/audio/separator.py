"""A mixture of any rate, channel count and length -> its stems, under a prior."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from mgdm_audio.audio.drawing import Drawing, Progress
from mgdm_audio.audio.io import read
from mgdm_audio.audio.joins import Join
from mgdm_audio.audio.level import active_level
from mgdm_audio.audio.pipeline import Held, separate_blocks
from mgdm_audio.audio.runner import Runner
from mgdm_audio.audio.segments import cut
from mgdm_audio.audio.separation import Separation
from mgdm_audio.checkpoint import LoadedPrior
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.samplers.presets import Preset

DEFAULT_SAMPLER = "default"
JOINS: tuple[Join, ...] = get_args(Join)
LEVELS = ("rms", "none")  # to which a mixture is brought, see ``Separator``


class Separator(Runner):
    """Posterior sampling of the stems of a mixture, segment by segment.

    Several channels are separated as batch items that share their random numbers. Equal channels
    then give equal stems, and a source panned between two channels keeps its place: independent
    draws would scatter each stem's stereo image by the posterior's spread.
    """

    PRESET = DEFAULT_SAMPLER

    def __init__(
        self,
        loaded: LoadedPrior,
        preset: Preset,
        *,
        device: str = "auto",
        segment: float = 12.0,
        overlap: float = 1.0,
        join: Join = "crossfade",
        level: str = "rms",
        batch_size: int | None = None,
        precision: str = "auto",
    ):
        """``segment``, ``overlap``: seconds. ``join``: of neighbouring segments, see ``drawing``;
        with "condition" all draws hear the track at its own speed. ``batch_size``: segments x draws
        x channels in one network call on a GPU, by default 8; a CPU takes one at a time, see
        ``Runner``.

        ``level``: "rms" brings a mixture to the level of those that the prior was trained on,
        "none" leaves it as it is. ``precision``: "float32", "bfloat16" (the network's matrices
        only) or "auto".
        """
        if level not in LEVELS:
            raise UserError(f"level {level!r}: choose one of {', '.join(LEVELS)}")
        if not 0 <= overlap < segment / 2:
            raise UserError(f"overlap {overlap} s: choose at least 0 and under half of {segment} s")
        if join not in JOINS:
            raise UserError(f"join {join!r}: choose one of {', '.join(JOINS)}")
        if join == "condition":  # a sample decided at one speed lies between samples at another
            preset = replace(preset, speeds=(0.0,))
        super().__init__(loaded, preset, device=device, batch_size=batch_size, precision=precision)
        self.join: Join = join
        self.level = level
        self.segment = max(1, round(segment * loaded.sample_rate) // self.multiple) * self.multiple
        self.overlap = round(overlap * loaded.sample_rate)

    def separate(
        self,
        mixture: Tensor,
        *,
        seed: int = 0,
        draws: int | None = None,
        level: Tensor | float | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Tensor]:
        """mixture: [batch, 1, time] at the prior's rate -> stem: [batch, time], mean of ``draws``.

        ``level``: rms by which the items are brought to the prior's level, [batch] or a number, by
        default each item's own active level; no part of it where the separator's own level is
        "none". Every segment and draw has a seed of its own, so the draws do not depend on
        ``batch_size`` beyond how a GPU rounds; items of a batch share their random numbers.
        """
        if mixture.ndim != 3 or mixture.shape[1] != 1 or mixture.shape[-1] < 1:
            raise UserError(f"mixture of shape {tuple(mixture.shape)}: give [batch, 1, time >= 1]")
        batch, _, time_ = mixture.shape
        y = mixture.to(self.device, torch.float32)
        _check_finite(y)
        if level is None:
            level = torch.stack([active_level(item, self.loaded.sample_rate) for item in y])
        gain = self.level_gain(torch.as_tensor(level, dtype=y.dtype, device=y.device))
        gain = gain.reshape(-1, 1, 1)
        segment, overlap = self.cuts(time_)
        segments = cut(y * gain, segment, overlap)  # [n, batch, 1, segment]
        drawing = Drawing(
            self,
            segments.__getitem__,
            len(segments),
            time_,
            overlap,
            batch,
            None,
            join=self.join,
            seed=seed,
            draws=draws or self.preset.draws,
            on_progress=on_progress,
        )
        mean = torch.cat([piece[0] for piece in drawing.pieces()], -1) / gain
        return {stem: mean[:, k] for k, stem in enumerate(self.stems)}

    def level_gain(self, level: Tensor, unit: float = 1.0) -> Tensor:
        """What brings a mixture of this active level to the prior's; 1 for silence.

        Where mixtures are left as they are: ``unit``, by which this one was divided.
        """
        if self.level == "none":
            return torch.full_like(level, unit)
        return torch.where(level > 0, self.loaded.mixture_rms / level.clamp_min(1e-30), 1.0)

    def cuts(self, time_: int) -> tuple[int, int]:
        """Segment and overlap for a mixture of ``time_`` samples, all at the prior's rate."""
        segment = min(self.segment, -(-time_ // self.multiple) * self.multiple)
        overlap = min(self.overlap, (segment - 1) // 2)
        return segment, overlap

    def separate_audio(
        self,
        samples: Tensor,
        sample_rate: int,
        *,
        seed: int = 0,
        draws: int | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Tensor]:
        """samples: [channel, time] at any rate -> stem: [channel, time], summing to the samples."""
        return self.posterior(
            samples, sample_rate, seed=seed, draws=draws, on_progress=on_progress
        ).stems

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
        """samples: [channel, time] at any rate -> the stems, how they spread, and a report.

        ``draws`` replaces the preset's number. ``keep_draws``: each of them is in the result.
        Raises UserError for samples of another shape, none, or some that are not finite.
        """
        if samples.ndim != 2 or not samples.numel():
            raise UserError(f"samples of shape {tuple(samples.shape)}: give [channel, time >= 1]")
        samples = samples.detach().to("cpu", torch.float32)
        _check_finite(samples)
        found = separate_blocks(
            self,
            [samples],
            sample_rate,
            Held,
            seed=seed,
            draws=draws,
            keep_draws=keep_draws,
            on_progress=on_progress,
        )
        mean, *each = found.parts.read(0, samples.shape[-1])
        return Separation(
            samples,
            dict(zip(self.stems, mean, strict=True)),
            sample_rate,
            found.report,
            found.spread,
            torch.stack(each) if keep_draws else None,
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
        """Separate an audio file. Raises UserError, in one line, where it cannot be read."""
        audio = read(path)
        result = self.posterior(
            audio.samples,
            audio.sample_rate,
            seed=seed,
            draws=draws,
            keep_draws=keep_draws,
            on_progress=on_progress,
        )
        source = {"input": Path(path).name, "input_sha256": hash_file(Path(path))}
        return replace(result, report=result.report | source)

    def settings(
        self, *, seed: int = 0, draws: int | None = None, keep_draws: bool = False
    ) -> dict[str, Any]:
        """All that decides a separation beside its input, for the record."""
        return self.provenance() | {
            "input": None,  # the file's name and content, if it was a file
            "input_sha256": None,
            "published": self.preset.stands_for(draws),
            "draws": draws or self.preset.draws,
            "keep_draws": keep_draws,
            "two_stems": None,
            "seed": seed,
            "level": self.level,
            "segment_seconds": self.segment / self.loaded.sample_rate,
            "overlap_seconds": self.overlap / self.loaded.sample_rate,
            "join": self.join,
        }


def _check_finite(samples: Tensor) -> None:
    if not samples.isfinite().all():
        raise UserError("the samples are not all finite numbers; repair them first")
