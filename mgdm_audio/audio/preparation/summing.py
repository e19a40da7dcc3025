"""Source files -> the stems of one track: summed, padded to one length, mono, at one rate."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.audio.pcm import full_scale
from mgdm_audio.audio.preparation.plan import Decision, Plan
from mgdm_audio.audio.preparation.wholeness import read_whole
from mgdm_audio.audio.resampling import resample


@dataclass(frozen=True)
class Stems:
    """The stems of one track and what is to be said about them."""

    samples: dict[str, Tensor]  # [time] float64 each, equally long
    sources: dict[str, list[dict[str, Any]]]  # as in the manifest
    decisions: list[Decision]


def sum_stems(track: Path, plan: Plan, sample_rate: int) -> Stems:
    """Read and sum the planned sources of the folder ``track``, at ``sample_rate`` Hz.

    Channels are averaged. A stem is as long as the longest source of the track: zeros follow what
    ends earlier. Sums are exact (float64) and are resampled once, in float32; at the source's own
    rate they are not touched. Raises UserError for a source that is damaged or cut short.
    """
    sums: dict[str, dict[int, Tensor]] = {stem: {} for stem in plan.stems}  # by sample rate
    sources: dict[str, list[dict[str, Any]]] = {stem: [] for stem in plan.stems}
    decisions = []
    seconds = Fraction(0)
    for stem, planned in plan.stems.items():
        for source in planned:
            path = track / source.path
            audio = read_whole(path)
            channels, frames = audio.samples.shape
            if channels > 1:
                decisions.append(Decision(source.path, "averaged", f"{channels} channels"))
            mono = audio.samples.double().mean(0)
            at_rate = sums[stem]
            at_rate[audio.sample_rate] = _add(at_rate.get(audio.sample_rate, mono[:0]), mono)
            seconds = max(seconds, Fraction(frames, audio.sample_rate))
            sources[stem].append(
                {
                    "path": source.path,
                    "program": source.program,
                    "bytes": path.stat().st_size,
                    "sample_rate": audio.sample_rate,
                    "frames": frames,
                    "channels": channels,
                }
            )
    for entry in (entry for entries in sources.values() for entry in entries):
        wanted = math.ceil(seconds * entry["sample_rate"])
        if entry["frames"] < wanted:
            why = f"{entry['frames']} of {wanted} samples"
            decisions.append(Decision(entry["path"], "padded", why))
    samples = {stem: _at_one_rate(sums.pop(stem), seconds, sample_rate) for stem in plan.stems}
    for stem, wave in samples.items():
        if not wave.any():
            why = "all of its samples are 0" if sources[stem] else "the track has no source of it"
            decisions.append(Decision(stem, "silent", why))
    return Stems(samples, sources, decisions)


def _add(a: Tensor, b: Tensor) -> Tensor:
    """The sum of two waveforms [time], the shorter one continued by zeros."""
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    total = longer.clone()
    total[: len(shorter)] += shorter
    return total


def _at_one_rate(sums: dict[int, Tensor], seconds: Fraction, sample_rate: int) -> Tensor:
    """[ceil(seconds * sample_rate)]; zeros are added before resampling, as part of the sum."""
    total = torch.zeros(math.ceil(seconds * sample_rate), dtype=torch.float64)
    for rate, wave in sorted(sums.items()):
        wave = torch.nn.functional.pad(wave, (0, math.ceil(seconds * rate) - len(wave)))
        if rate != sample_rate:
            # float32: fifty times faster than float64, and 24 bits are what is written.
            wave = resample(wave.float(), rate, sample_rate).double()
        total += wave[: len(total)]
    return total


def narrowest_subtype(samples: Tensor) -> str:
    """PCM_16 where it holds the samples exactly, FLOAT where they leave full scale, else PCM_24."""
    steps = samples.double() * full_scale("PCM_16")
    if steps.equal(steps.round()) and _fits(steps, "PCM_16"):
        return "PCM_16"
    return "PCM_24" if _fits(samples.double() * full_scale("PCM_24"), "PCM_24") else "FLOAT"


def _fits(steps: Tensor, subtype: str) -> bool:
    full = full_scale(subtype)
    low, high = steps.aminmax()
    return bool(-full <= low.round() and high.round() <= full - 1)
