"""Generates music from a prior: all of its stems, or the missing stems given the others."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.audio.files import Given
from mgdm_audio.audio.io import write
from mgdm_audio.audio.pcm import SUBTYPES, common_gain
from mgdm_audio.audio.resampling import resample, resample_back
from mgdm_audio.engine.runner import UNITS, Progress
from mgdm_audio.errors import UserError
from mgdm_audio.measurement import GaussianLikelihood, KnownSources
from mgdm_audio.output.result_folder import spare, whole
from mgdm_audio.priors.folder import LoadedPrior
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import Ancestral, Step
from mgdm_audio.separation.runner import StemRunner
from mgdm_audio.separation.segments import active_level

GENERATION, IMPUTATION = "ancestral", "impute"  # the presets without and with given stems
MAX_SECONDS = 120.0  # the longest sample, which is one segment: see Generator
RECORD = "sample.json"


@dataclass(frozen=True)
class Sample:
    """A ``Sample`` holds one draw of all the stems of a prior, including the given ones."""

    stems: dict[str, Tensor]  # name -> [channel, time], float32
    given: frozenset[str]  # names of the given stems
    sample_rate: int  # Hz
    report: dict[str, Any]  # how it was made, as JSON values
    mask: int = 0  # of the speakers that the channels are for, see ``audio.speakers``
    files: tuple[Path, ...] = ()  # that the given stems were read from

    @property
    def mixture(self) -> Tensor:
        """The sum of the stems: [channel, time]."""
        return torch.stack(list(self.stems.values())).double().sum(0).float()

    def save(self, folder: str | Path, subtype: str = "PCM_24") -> dict[str, Any]:
        """Writes ``<stem>.wav``, mixture.wav and sample.json; returns the contents of the last.

        ``subtype``: PCM_16, PCM_24 or FLOAT. Given stems are never scaled. In PCM, generated ones
        are lowered by one gain where any of them would clip (``gain`` of the record), and so is
        the mixture of what is written (``mixture_gain``). The folder is written whole or not at
        all; in one that is there already files of the same names are replaced. Raises UserError
        where it cannot be written to, and where the file of a given stem would be replaced.
        """
        check_planned(Path(folder), self.stems, self.files)
        if subtype not in SUBTYPES:
            raise UserError(f"subtype {subtype!r} is unknown; use one of {', '.join(SUBTYPES)}")
        made = [samples for name, samples in self.stems.items() if name not in self.given]
        gain = min(common_gain(samples[None], samples, subtype) for samples in made)
        stems = {k: x if k in self.given else gain * x for k, x in self.stems.items()}
        mixture = Sample(stems, self.given, self.sample_rate, {}).mixture
        mixture_gain = common_gain(mixture[None], mixture, subtype)
        record = self.report | {"subtype": subtype, "gain": gain, "mixture_gain": mixture_gain}
        with whole(Path(folder), RECORD) as fresh:
            for name, samples in (stems | {"mixture": mixture_gain * mixture}).items():
                write(fresh / f"{name}.wav", samples, self.sample_rate, subtype, self.mask)
            (fresh / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        return record


def check_planned(folder: Path, stems: Iterable[str], given: Iterable[Path]) -> None:
    """Raises UserError where ``Sample.save`` to ``folder`` would replace one of ``given``."""
    planned = [folder / f"{name}.wav" for name in (*stems, "mixture")]
    spare([*planned, folder / RECORD], given)


class Generator(StemRunner):
    """Draws samples of a prior's stems, each in one segment of up to ``MAX_SECONDS``.

    Missing stems are drawn from the posterior given the others, which ``KnownSources`` observes. A
    prior expects stems at the level of its training data: the given stems are scaled by one gain so
    that their sum has the expected rms, and the drawn stems are scaled back by it. Their balance is
    then that of the training data, at any level of the files. Silent stems are not scaled.

    A preset's ``draws`` is not used: every sample is one draw.

    The network processes the whole segment at once, so memory grows with the length: 2.4 GB for
    ``MAX_SECONDS`` under the bundled prior on a CPU (peak resident set of the process, Linux).
    """

    PRESET = GENERATION  # of ``generate``; ``impute`` needs ``IMPUTATION`` or a posterior sampler

    def generate(
        self,
        seconds: float,
        *,
        samples: int = 1,
        seed: int = 0,
        on_progress: Progress | None = None,
    ) -> Iterator[Sample]:
        """Yields ``samples`` draws of all stems, mono, of ``seconds`` at the prior's rate.

        Sample i is a function of (seed, i, seconds). Raises UserError for a length that is not
        positive or above ``MAX_SECONDS``, and for a sampler that needs given stems.
        """
        if not isinstance(self.preset.sampler, Ancestral):
            raise UserError(
                f"sampler {self.preset.name} needs given stems; use {GENERATION} or give some"
            )
        rate = self.loaded.sample_rate
        if not 1 / rate <= seconds <= MAX_SECONDS:
            raise UserError(
                f"{seconds:g} seconds: give a length of up to {MAX_SECONDS:.0f} seconds"
            )
        time_ = round(seconds * rate)
        return self._samples(None, (1, time_, rate), samples, seed, on_progress)

    def impute(
        self, given: Given, *, samples: int = 1, seed: int = 0, on_progress: Progress | None = None
    ) -> Iterator[Sample]:
        """Yields ``samples`` draws of the stems that ``given`` lacks, at its rate and length.

        The network is conditioned on the mean of the channels, and the drawn stems are equal in all
        channels. Raises UserError if no stem is missing or none is given, for stems longer than
        ``MAX_SECONDS``, and for a sampler that is not a posterior sampler.
        """
        unknown = [name for name in given.stems if name not in self.stems]
        if unknown or not 0 < len(given.stems) < len(self.stems):
            raise UserError(
                f"given stems {', '.join(given.stems)}: "
                f"give some of {', '.join(self.stems)}, but not all"
            )
        if isinstance(self.preset.sampler, Ancestral):
            raise UserError(
                f"sampler {self.preset.name} takes no given stems; use {IMPUTATION} or another"
            )
        shape = (*next(iter(given.stems.values())).shape, given.sample_rate)
        if shape[1] > MAX_SECONDS * given.sample_rate:
            raise UserError(
                f"given stems of {shape[1] / given.sample_rate:.1f} s: "
                f"give at most {MAX_SECONDS:.0f} s, cut them first"
            )
        return self._samples(given, shape, samples, seed, on_progress)

    def _samples(
        self,
        given: Given | None,
        shape: tuple[int, int, int],
        samples: int,
        seed: int,
        on_progress: Progress | None,
    ) -> Iterator[Sample]:
        """Yields samples of ``shape`` (channels, time, sample_rate)."""
        channels, length, sample_rate = shape
        rate = self.loaded.sample_rate
        names = tuple(stem for stem in self.stems if given is not None and stem in given.stems)
        gain, observed = 1.0, None
        if given is not None:
            mono = torch.stack([given.stems[name].mean(0) for name in names])
            observed = resample(mono, sample_rate, rate).to(self.device, torch.float32)
            level = float(active_level(observed.sum(0, keepdim=True), rate))
            gain = expected_level(self.loaded, names) / level if level > 0 else 1.0
        time_ = length if observed is None else observed.shape[-1]
        y = None if observed is None else gain * observed

        def share(done: float) -> None:
            if on_progress is not None:
                on_progress(int(UNITS * done * samples), UNITS * samples)

        def draw(
            indices: Sequence[int], on_step: Callable[[Step], None]
        ) -> list[tuple[Tensor, float, dict[str, int]]]:
            """Returns each draw, its share of the seconds, and the batch's denoiser calls."""
            started, before = time.monotonic(), self.calls.counts
            x = self._draw(y, names, time_, seed, indices, on_step).cpu() / gain
            seconds = (time.monotonic() - started) / len(indices)
            calls = {way: count - before[way] for way, count in self.calls.counts.items()}
            return [(sources, seconds, calls) for sources in x]

        for index, (sources, seconds, calls) in self.run(range(samples), draw, on_share=share):
            sources = resample_back(sources, rate, sample_rate, length)
            stems = {
                name: source.expand(channels, -1).clone()
                for name, source in zip(self.stems, sources, strict=True)
            }
            stems = {n: given.stems[n] if given and n in names else stems[n] for n in stems}
            report = self._report(shape, names, seed, index, seconds) | {
                "input": {} if given is None else given.inputs,
                "level_gain": gain,
                "denoiser_calls": calls,
            }
            mask, files = (0, ()) if given is None else (given.mask, given.files)
            yield Sample(stems, frozenset(names), sample_rate, report, mask, files)

    def _draw(
        self,
        y: Tensor | None,
        names: tuple[str, ...],
        time_: int,
        seed: int,
        indices: Sequence[int],
        on_step: Callable[[Step], None],
    ) -> Tensor:
        """Draws [batch, sources, time] at the prior's rate and level; ``y``: [given, time]."""
        padding = -time_ % self.multiple
        prior = self.prior.with_event_shape((len(self.stems), time_ + padding))
        device = self.signal_device
        generators = [generator_for(seed, "sample", i, device=device) for i in indices]
        if y is None:
            x_T = prior.sample_x_T(len(indices), generator=generators, device=self.device)
            x = self.sample(prior, None, generator=generators, x_T=x_T, on_step=on_step)
        else:
            known = KnownSources([self.stems.index(n) for n in names], len(self.stems))
            observed = F.pad(y, (0, padding)).expand(len(indices), -1, -1)
            likelihood = GaussianLikelihood(known, observed, self.preset.noise_std)
            x = self.sample(prior, likelihood, generator=generators, on_step=on_step)
        return x[..., :time_]

    def _report(
        self,
        shape: tuple[int, int, int],
        names: tuple[str, ...],
        seed: int,
        index: int,
        seconds: float,
    ) -> dict[str, Any]:
        channels, length, sample_rate = shape
        return self.provenance() | {
            "sample_rate": sample_rate,
            "channels": channels,
            "samples": length,
            "given": list(names),
            "seed": seed,
            "sample": index,
            "seconds": round(seconds, 3),
        }


def expected_level(loaded: LoadedPrior, names: tuple[str, ...]) -> float:
    """Returns the rms that the prior expects of the sum of these stems, as if independent.

    It follows from the scale per (source, bin) that a ``tf_unet`` measured on its training set; for
    other networks each stem has an equal share of the power of ``mixture_rms``.
    """
    indices = [loaded.stems.index(name) for name in names]
    scale: Tensor | None = getattr(loaded.network, "scale", None)
    if scale is None:
        return loaded.mixture_rms * math.sqrt(len(indices) / len(loaded.stems))
    return float(scale[indices].double().square().mean(1).sum().sqrt())
