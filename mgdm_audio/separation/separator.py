"""Separates a mixture of any rate, channel count and length into stems, under a prior."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Self, Unpack

import torch
from torch import Tensor

from mgdm_audio.audio.encoding.tags import Tags, read_tags
from mgdm_audio.audio.reading import MAX_SECONDS, RATES, Policy, Reading
from mgdm_audio.audio.store import Held, Spool, Store
from mgdm_audio.engine.runner import Progress
from mgdm_audio.errors import UserError
from mgdm_audio.output.result_folder import require_name, unwritable
from mgdm_audio.priors.folder import DEFAULT_PRIOR, LoadedPrior
from mgdm_audio.samplers.presets import Preset
from mgdm_audio.separation.drawing import Drawing
from mgdm_audio.separation.former import FormerNames
from mgdm_audio.separation.pipeline import separate_blocks
from mgdm_audio.separation.result import Separation, check_stem
from mgdm_audio.separation.runner import RunnerOptions, StemRunner
from mgdm_audio.separation.segments import Join, Level, Segmentation, active_level, cut
from mgdm_audio.separation.source import as_samples, require_finite
from mgdm_audio.separation.starting import prepare_start, starts_by_image
from mgdm_audio.separation.stereo import Stereo

DEFAULT_SAMPLER = "default"


class SeparatorOptions(RunnerOptions, total=False):
    """The keyword options of a ``Separator``."""

    segment: float
    overlap: float
    join: Join
    level: Level
    speeds: Sequence[float] | None
    stereo: Stereo


class Separator(FormerNames, StemRunner):
    """Posterior sampling of the stems of a mixture, segment by segment.

    Channels are separated as batch items with the same random numbers. Equal channels then give
    equal stems, and a panned source keeps its place in the stereo image, which independent draws
    would blur by the posterior's standard deviation. Of two channels, conditional means are
    drawn of each at the track's own speed and of their mean at the others; ``stereo`` derives the
    stems of each channel.
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
        level: Level = "rms",
        speeds: Sequence[float] | None = None,
        stereo: Stereo = "auto",
        batch_size: int | None = None,
        precision: str = "auto",
    ):
        """Prepares a separator for a prior and a preset; see also ``from_pretrained``.

        ``segment``, ``overlap``: seconds. ``join``: "crossfade" or "condition" (overlap
        conditioning), see ``drawing``. ``batch_size``: segments x draws x channels in one network
        call on a GPU, by default 8; on a CPU it is 1, see ``StemRunner``. ``level``: "rms" scales a
        mixture to the level of the prior's training data, "none" does not. ``speeds``: semitones, 0
        first, by default the preset's: the draws cycle through them (speed augmentation at test
        time), except with ``join="condition"``, which uses the first alone. ``stereo``: of two
        channels, "channels" takes all draws of each, "image" draws of each at speed 0 and draws of
        their mean at all others. "image" needs draws that are conditional means and are not kept,
        and ``join="crossfade"``; "auto" is "image" where that applies, else "channels".
        ``precision``: "float32", "bfloat16" (within the network alone) or "auto".

        Raises UserError for a setting out of its range.
        """
        super().__init__(loaded, preset, device=device, batch_size=batch_size, precision=precision)
        self.segmentation = Segmentation.of(self, segment, overlap, join, level, speeds, stereo)
        self.segment = self.segmentation.segment

    @classmethod
    def from_pretrained(
        cls,
        prior: str | Path = DEFAULT_PRIOR,
        sampler: str | Path | None = None,
        *,
        overrides: Sequence[str] = (),
        **options: Unpack[SeparatorOptions],
    ) -> Self:
        """Opens a prior and a preset by name or path, see ``StemRunner.from_pretrained``."""
        return cls(*cls._open(prior, sampler, overrides, options), **options)

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
        damaged: Policy = "refuse",
        max_seconds: float = MAX_SECONDS,
        on_progress: Progress | None = None,
    ) -> Separation:
        """Separates a sound file or samples into stems of the same rate, channels and length.

        ``source``: a path, or an array of floats [time] or [channel, time], see ``as_samples``, at
        ``sample_rate`` Hz. ``draws`` replaces the preset's number; ``keep_draws``: each of them is
        in the result. ``two_stems``: only this stem, and the mixture less it. ``folder``: where
        temporary files hold what else is in memory: 4 bytes a sample of the input, of each stem at
        the prior's rate and of each stem at the input's, for each draw that is kept once more;
        until the result is closed. ``damaged``, ``max_seconds``: of a file, see ``Reading``; what
        is missing of one that is kept is in the report.

        Raises UserError, in one line, for a file that cannot be read, samples of another shape,
        none, or some that are not finite, an unknown stem and a folder that cannot be written to;
        DamagedError for a file that is cut short or damaged.
        """
        if two_stems is not None:
            check_stem(two_stems, self.stems)
        reading = None
        if isinstance(source, str | os.PathLike):
            reading = Reading(Path(source), damaged=damaged, max_seconds=max_seconds)
        blocks, rate, mask = _opened(reading or source, sample_rate, on_progress)
        tags = Tags() if reading is None else read_tags(reading.path)
        with _stores(folder) as store:
            found = separate_blocks(
                self,
                self.segmentation,
                blocks,
                rate,
                store,
                seed=seed,
                draws=draws or self.preset.draws,
                keep_draws=keep_draws,
                settings=self.settings(seed=seed, draws=draws, keep_draws=keep_draws),
                on_progress=on_progress,
            )
        found = replace(found, mask=mask)
        if reading is not None:
            named = {
                "input": reading.path.name,
                "input_sha256": reading.sha256,  # of the bytes that were decoded
                "missing": [asdict(part) for part in reading.missing],
            }
            found = replace(found, report=found.report | named, path=reading.path, tags=tags)
        return found if two_stems is None else found.two_stems(two_stems)

    def separate_batch(
        self,
        mixture: Tensor,
        *,
        seed: int = 0,
        draws: int | None = None,
        level: Tensor | float | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Tensor]:
        """Separates mixtures [batch, 1, time] at the prior's rate; returns stem -> [batch, time].

        Each stem is the mean of ``draws``. For experiments: nothing is resampled or stored, and all
        tensors stay on the device. ``level``: the rms, [batch] or a number, from which items are
        scaled to the prior's level, by default each item's own active level; it is unused if the
        separator's ``level`` is "none". Every segment and draw has its own seed, so the draws do
        not depend on ``batch_size`` except for a GPU's rounding; items of a batch share their
        random numbers. Raises UserError for another shape and for non-finite samples.
        """
        if mixture.ndim != 3 or mixture.shape[1] != 1 or mixture.shape[-1] < 1:
            raise UserError(f"mixture of shape {tuple(mixture.shape)}: give [batch, 1, time >= 1]")
        batch, _, time_ = mixture.shape
        y = mixture.to(self.device, torch.float32)
        require_finite(y)
        if level is None:
            level = torch.stack([active_level(item, self.loaded.sample_rate) for item in y])
        level = torch.as_tensor(level, dtype=y.dtype, device=y.device)
        gain = self.segmentation.level_gain(level).reshape(-1, 1, 1)
        segment, overlap = self.segmentation.cuts(time_)
        segments = cut(y * gain, segment, overlap)  # [n, batch, 1, segment]
        drawing = Drawing(
            self,
            segments.__getitem__,
            len(segments),
            time_,
            overlap,
            batch,
            None,
            join=self.segmentation.join,
            speeds=self.segmentation.speeds,
            seed=seed,
            draws=draws or self.preset.draws,
            on_progress=on_progress,
        )
        if self.preset.start is not None:
            prepare_start(drawing, self.preset.start, segment, Held)
        mean = torch.cat([piece[0] for piece in drawing.pieces()], -1) / gain
        return {stem: mean[:, k] for k, stem in enumerate(self.stems)}

    def settings(
        self, *, seed: int = 0, draws: int | None = None, keep_draws: bool = False
    ) -> dict[str, Any]:
        """Returns everything that a separation depends on besides its input, for the record."""
        cuts, rate = self.segmentation, self.loaded.sample_rate
        return self.provenance() | {
            "input": None,  # the file's name, and below its hash, if it was a file
            "input_sha256": None,
            "start_from": self._start_record(),
            "missing": [],  # of a damaged file: {"at", "seconds"} of what was read, and why
            "published": self.preset.stands_for(draws),
            "draws": draws or self.preset.draws,
            "keep_draws": keep_draws,
            "two_stems": None,
            "chosen": None,
            "seed": seed,
            "speeds": list(cuts.speeds),
            "stereo": "image" if cuts.image(keep_draws) else "channels",
            "level": cuts.level,
            "segment_seconds": cuts.segment / rate,
            "overlap_seconds": cuts.overlap / rate,
            "join": cuts.join,
        }

    def _start_record(self) -> dict[str, Any] | None:
        start = self.preset.start
        if start is None:
            return None
        stereo = "image" if starts_by_image(self.segmentation, start) else "channels"
        return (self.preset.start_record or {}) | {"stereo": stereo}


@cache
def opened(
    prior: str,
    sampler: str | None,
    overrides: tuple[str, ...] = (),
    **options: Unpack[SeparatorOptions],
) -> Separator:
    """Returns ``Separator.from_pretrained`` of the same arguments, opened once a process."""
    return Separator.from_pretrained(prior, sampler, overrides=overrides, **options)


@contextmanager
def _stores(folder: str | Path | None) -> Iterator[Callable[[tuple[int, ...]], Store]]:
    """Makes stores, in ``folder`` or in memory, which are closed where the block fails."""
    with ExitStack() as stack:

        def store(shape: tuple[int, ...]) -> Store:
            held = Held(shape) if folder is None else Spool(shape, Path(folder))
            stack.callback(held.close)
            return held

        try:
            if folder is not None:
                require_name(folder)
                Path(folder).mkdir(parents=True, exist_ok=True)
            yield store
        except OSError as error:
            raise unwritable(folder or ".", error) from None
        stack.pop_all()


def _opened(
    source: Any, sample_rate: int | None, on_progress: Progress | None
) -> tuple[Iterator[Tensor], int, int]:
    """Returns consecutive blocks [channel, any], their rate in Hz, and the mask of speakers."""
    if not isinstance(source, Reading):
        if sample_rate is None:
            raise UserError("samples in memory: give their sample_rate in Hz")
        if sample_rate not in RATES:
            raise UserError(f"sample_rate {sample_rate}: give {RATES[0]} to {RATES[-1]} Hz")
        return iter([as_samples(source)]), sample_rate, 0
    first = next(source)
    if sample_rate not in (None, first.sample_rate):
        raise UserError(
            f"{source.path}: has {first.sample_rate} Hz, not {sample_rate}; leave sample_rate out"
        )

    def samples() -> Iterator[Tensor]:
        for block in chain([first], source):
            yield block.samples
            if on_progress is not None:
                on_progress(0, 1)  # there is no progress yet, but the callback may stop the run

    return samples(), first.sample_rate, first.mask
