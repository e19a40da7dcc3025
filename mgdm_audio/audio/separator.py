"""A mixture of any rate, channel count and length -> its stems, under a prior."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.audio.bandwidth import share_residual
from mgdm_audio.audio.io import read
from mgdm_audio.audio.resampling import PASSBAND, resample, resample_back
from mgdm_audio.audio.runner import Runner
from mgdm_audio.audio.segments import cut, fade_in, stitch
from mgdm_audio.audio.separation import Separation
from mgdm_audio.checkpoint import LoadedPrior
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import Step
from mgdm_audio.samplers.presets import Preset

SILENCE = 1e-4  # of the prior's level: a quieter segment is shared equally, no network is asked
STD_HOP = 0.1  # seconds, the resolution of Separation.std
DEFAULT_SAMPLER = "default"
LEVELS = ("rms", "none")  # to which a mixture is brought, see ``Separator``
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


class Draws(NamedTuple):
    """Posterior draws of a batch of mixtures, at the prior's rate."""

    mean: Tensor  # [batch, sources, time]
    std: Tensor  # [batch, sources, windows of STD_HOP], see Separation; 0 for a single draw
    each: Tensor  # [draws if they are kept or 0, batch, sources, time]


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
        level: str = "rms",
        batch_size: int | None = None,
        precision: str = "auto",
    ):
        """``segment``, ``overlap``: seconds. ``batch_size``: draws x channels in one network call;
        by default 8 on a GPU and 1 on a CPU, whose caches and allocator large tensors overrun.

        ``level``: "rms" brings a mixture to the level of those that the prior was trained on,
        "none" leaves it as it is. ``precision``: "float32", "bfloat16" (the network's matrices
        only) or "auto".
        """
        if level not in LEVELS:
            raise UserError(f"level {level!r}: choose one of {', '.join(LEVELS)}")
        if not 0 <= overlap < segment / 2:
            raise UserError(f"overlap {overlap} s: choose at least 0 and under half of {segment} s")
        super().__init__(loaded, preset, device=device, batch_size=batch_size, precision=precision)
        # Draws are spread over the positions of the network's frames, see _segment.
        self.hop = int(getattr(loaded.network, "hop", 0))
        self.segment = max(1, round(segment * loaded.sample_rate) // self.multiple) * self.multiple
        self.overlap = round(overlap * loaded.sample_rate)
        self.level = level

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
        "none". Every segment and draw has a seed of its own, so
        the result does not depend on ``batch_size``; items of a batch share their random numbers.
        """
        if mixture.ndim != 3 or mixture.shape[1] != 1 or mixture.shape[-1] < 1:
            raise UserError(f"mixture of shape {tuple(mixture.shape)}: give [batch, 1, time >= 1]")
        if level is None:
            level = torch.stack([active_level(item, self.loaded.sample_rate) for item in mixture])
        gain = self.level_gain(torch.as_tensor(level, dtype=torch.float32))
        mean = self._draw(mixture, seed, draws or self.preset.draws, False, gain, on_progress).mean
        return {stem: mean[:, k] for k, stem in enumerate(self.stems)}

    def _draw(
        self,
        mixture: Tensor,
        seed: int,
        draws: int,
        keep: bool,
        gain: Tensor,
        on_progress: Progress | None,
    ) -> Draws:
        """mixture: [batch, 1, time]; ``gain``: of each item, [batch] or of all, []."""
        time_ = mixture.shape[-1]
        y = mixture.to(self.device, torch.float32)
        gain = gain.to(y).reshape(-1, 1, 1)
        segment, overlap = self.cuts(time_)
        segments = cut(y * gain, segment, overlap)  # [n, batch, 1, segment]
        estimates = self.estimates(
            segments.__getitem__, len(segments), overlap, seed, draws, keep, on_progress
        )
        mean, variance, *each = stitch(estimates, time_, overlap)
        hop = round(STD_HOP * self.loaded.sample_rate)
        windows = [part.mean(-1) for part in variance.split(hop, -1)]
        std = torch.stack(windows, -1).clamp_min(0).sqrt()
        return Draws(
            mean / gain, std / gain, torch.stack([x / gain for x in each]) if keep else mean[:0]
        )

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

    def estimates(
        self,
        cut_at: Callable[[int], Tensor],
        count: int,
        overlap: int,
        seed: int,
        draws: int,
        keep: bool,
        on_progress: Progress | None,
    ) -> Iterator[Tensor]:
        """For ``stitch``: [rows, batch, sources, segment] of each of ``count`` segments.

        ``cut_at(index)``: a segment of the mixture at the prior's level, [batch, 1, segment]; one
        is held at a time. Rows: see ``_segment``.
        """
        for index in range(count):

            def progress(share: float, before: int = index) -> None:
                if on_progress is not None:  # a segment counts 1000, whatever its number of steps
                    on_progress(int(1000 * (before + share)), 1000 * count)

            moments = self._segment(cut_at(index), seed, index, draws, keep, progress)
            # Where segments overlap their draws, which are independent, are blended: each
            # variance counts by the square of its weight. ``stitch`` applies the other half.
            fade, variance = fade_in(overlap, moments), moments[1]
            if index > 0:
                variance[..., :overlap] *= fade
            if index + 1 < count:
                variance[..., variance.shape[-1] - overlap :] *= fade.flip(-1)
            yield moments
            progress(1)

    def _segment(
        self,
        y: Tensor,
        seed: int,
        index: int,
        draws: int,
        keep: bool,
        on_progress: Callable[[float], None],
    ) -> Tensor:
        """y: [batch, 1, time] at the prior's level -> [rows, batch, sources, time].

        Rows: the mean over draws, their variance (N - 1 in the denominator) and, if they are to be
        kept, the draws; one at a time goes into the sums, so that memory does not grow with N.
        Each draw sees the segment at another offset from the frames of a network that has frames:
        in the mean, what a frame's edges add to an estimate cancels (cycle spinning, Coifman &
        Donoho 1995). Where memory runs out the batch is halved, for this segment and the next ones.
        """
        sources = len(self.stems)
        loud = y.square().mean((1, 2)).sqrt() > SILENCE * self.loaded.mixture_rms
        items = [(i, d) for d in range(draws) for i in range(len(y)) if bool(loud[i])]
        rows = y.new_empty(2 + draws * keep, len(y), sources, y.shape[-1])
        rows[:] = y / sources
        mean, square = rows[0], rows[1]
        mean[loud], square[:] = 0, 0
        time_, spread = y.shape[-1], self.hop if draws > 1 else 0
        first = 0
        while first < len(items):
            chunk = items[first : first + self.batch_size]

            def step(record: Step, before: int = first, size: int = len(chunk)) -> None:
                on_progress((before + size * (record.index + 1) / record.total) / len(items))

            offsets = [spread * d // draws for _, d in chunk]
            observed = torch.stack(
                [F.pad(y[i], (n, spread - n)) for (i, _), n in zip(chunk, offsets, strict=True)]
            )
            generators = [generator_for(seed, "segment", index, "draw", d) for _, d in chunk]
            x = self._sample(observed, generators, step)
            if x is None:
                self.batch_size = max(1, len(chunk) // 2)
                continue
            for padded, (i, d), n in zip(x, chunk, offsets, strict=True):
                draw = padded[:, n : n + time_]
                change = draw - mean[i]  # Welford's sums: no difference of large numbers
                mean[i] += change / (d + 1)
                square[i] += change * (draw - mean[i])
                if keep:
                    rows[2 + d, i] = draw
            first += len(chunk)
        square /= max(draws - 1, 1)
        return rows

    def _sample(
        self, y: Tensor, generators: list[torch.Generator], on_step: Callable[[Step], None]
    ) -> Tensor | None:
        """y: [batch, 1, time] -> a draw of each, [batch, sources, time]; None where memory ran out.

        Raises UserError where it did for a single item.
        """
        sources = len(self.stems)
        prior = self.prior.with_event_shape((sources, y.shape[-1]))
        likelihood = GaussianLikelihood(MixtureSum(sources), y, self.preset.noise_std)
        try:
            x = self.sample(prior, likelihood, generator=generators, on_step=on_step)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if len(y) == 1:
                raise UserError(
                    f"sampler {self.preset.name}: out of memory on {self.device}; "
                    "free some, or choose another device or sampler"
                ) from None
            x = None
        if x is None:  # the error is gone, and with it what it kept alive
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return None
        # A sampler meets the mixture up to sigma_y at best: the rest is shared equally.
        return x + MixtureSum(sources).pinv(likelihood.residual(x))

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
        """
        started, before = time.monotonic(), self.calls.counts
        rate, draws = self.loaded.sample_rate, draws or self.preset.draws
        # A power of two rounds nothing, and at full scale no square over- or underflows float32.
        exponent = math.frexp(float(samples.abs().max()))[1]
        unit = 2.0 ** max(-126, min(exponent, 127))
        scaled = samples / unit
        mixture = resample(scaled, sample_rate, rate)
        gain = self.level_gain(active_level(mixture, rate), unit)
        found = self._draw(mixture[:, None], seed, draws, keep_draws, gain, on_progress)

        def at_rate(sources: Tensor) -> Tensor:
            """[channel, stem, time] at the prior's rate -> [stem, channel, time] at the file's."""
            stems = sources.cpu().transpose(0, 1)
            stems = resample_back(stems, rate, sample_rate, samples.shape[-1])
            # What the prior cannot hear, near and above its Nyquist frequency, belongs to someone.
            cutoff = PASSBAND * min(rate, sample_rate) / 2
            return share_residual(scaled, stems, sample_rate, cutoff) * unit

        stems = dict(zip(self.stems, at_rate(found.mean), strict=True))
        each = torch.stack([at_rate(draw) for draw in found.each]) if keep_draws else None
        std = dict(zip(self.stems, found.std.cpu().transpose(0, 1) * unit, strict=True))
        report = self.settings(seed=seed, draws=draws, keep_draws=keep_draws) | {
            "sample_rate": sample_rate,
            "channels": samples.shape[0],
            "samples": samples.shape[-1],
        }
        report |= timing(time.monotonic() - started, samples.shape[-1] / sample_rate)
        report["denoiser_calls"] = {
            way: count - before[way] for way, count in self.calls.counts.items()
        }
        hop = round(STD_HOP * rate) / rate
        return Separation(
            samples, stems, sample_rate, report, std if draws > 1 else None, hop, each
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
            "draws": draws or self.preset.draws,
            "keep_draws": keep_draws,
            "two_stems": None,
            "seed": seed,
            "level": self.level,
            "segment_seconds": self.segment / self.loaded.sample_rate,
            "overlap_seconds": self.overlap / self.loaded.sample_rate,
        }


def timing(seconds: float, audio_seconds: float) -> dict[str, float]:
    """How long it took, for the record."""
    return {
        "seconds": round(seconds, 3),
        "seconds_per_second": round(seconds / audio_seconds, 3),
    }


def active_level(samples: Tensor, sample_rate: int) -> Tensor:
    """Rms over the channels and the seconds within 40 dB of the loudest; [] , 0 for silence.

    samples: [channel, time]. Pauses would lower a plain rms and so raise the music around them.
    """
    return level_of(powers(samples, sample_rate))


def powers(samples: Tensor, sample_rate: int) -> Tensor:
    """Mean squares of [channel, time] in each second that it begins: [seconds]."""
    return torch.stack([part.square().mean() for part in samples.split(sample_rate, -1)])


def level_of(power: Tensor) -> Tensor:
    """``active_level`` from ``powers``."""
    return power[power >= 1e-4 * power.max()].mean().sqrt()


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on any device."""
    text = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory")
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(word in text for word in words)
