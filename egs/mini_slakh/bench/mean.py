#!/usr/bin/env python3
"""What settings mgdm-mean and mgdm-refine are given: chains on excerpts of validation songs.

    python egs/mini_slakh/bench/mean.py --stems VALIDATION --output FOLDER [--tracks 4] [--chains 2]

VALIDATION holds <track>/<stem>.wav. The excerpt of a song is where its quietest stem is loudest.
Every chain of a setting of conf/mean.toml is averaged over the ranges of sigma_s / alpha_s there.
FOLDER/chains.jsonl has a line for each; what stands in it is not run again. Prints the
SI-SDR improvement over the mixture in dB, mean over the stems and excerpts: of one chain (mean over
chains) and of the mean of the chains, and the denoiser calls of a chain.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from mgdm_audio import tables
from mgdm_audio.audio.files import find_stems
from mgdm_audio.conditioning import condition
from mgdm_audio.config import from_mapping, load_toml
from mgdm_audio.diffusion import Posterior, Prior, counted
from mgdm_audio.evaluation.benchmark.measuring import load_stems
from mgdm_audio.evaluation.metrics import si_sdr
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.priors.folder import LoadedPrior, load_prior
from mgdm_audio.rng import Generators, generator_for
from mgdm_audio.samplers import MeanMGDM
from mgdm_audio.samplers.chain_mean import ChainMean
from mgdm_audio.samplers.presets import load_preset
from mgdm_audio.separation.segments import active_level
from mgdm_audio.separation.separator import Separator

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[2] / "recipes/local"))
from script import run  # noqa: E402

NOISE_STD = 1e-4  # that of the presets
CONTEXT = 11.9  # seconds that the default's network sees around a sample


@dataclass(frozen=True)
class Recording(MeanMGDM):
    """Keeps sigma_s / alpha_s and m(x_s) of every sweep of a batch of one."""

    sweeps: list[tuple[float, Tensor]] = field(default_factory=list)

    def _averaged(
        self, mean: ChainMean, prior: Prior, likelihood: Any, x_s: Tensor, s: Tensor,
        generator: Generators,
    ) -> Prior:  # fmt: skip
        sweep = ChainMean(generator)
        known = super()._averaged(sweep, prior, likelihood, x_s, s, generator)
        assert sweep.value is not None
        mean.value = sweep.value
        self.sweeps.append((float(prior.schedule.noise_level[s]), sweep.value[0]))
        return known


@dataclass(frozen=True)
class Setting:
    name: str
    options: dict[str, Any]
    start: bool = False


@dataclass(frozen=True)
class Excerpt:
    """At the prior's level."""

    track: str
    truth: Tensor  # [source, time]
    start: Tensor  # [source, time], of the default

    def gain(self, x: Tensor) -> float:
        """SI-SDR improvement of ``x: [source, time]`` over the mixture in dB, over the stems."""
        return float((si_sdr(x, self.truth) - si_sdr(self.truth.sum(0), self.truth)).mean())


def excerpt(folder: Path, loaded: LoadedPrior, length: int) -> Excerpt:
    stems, rate = load_stems(find_stems(folder))
    assert rate == loaded.sample_rate
    truth = stems.mean(1)
    power = truth.square().cumsum(-1)
    energy = power[:, length:] - power[:, :-length]
    begin = int(energy.min(0).values.argmax()) // 1024 * 1024
    room = round(CONTEXT * rate)
    first = max(0, min(begin + length // 2 - room // 2, truth.shape[-1] - room))
    around = truth[:, first : first + room]
    gain = loaded.mixture_rms / float(active_level(around.sum(0, keepdim=True), rate))
    separator = Separator(loaded, load_preset("default"), device="cpu", precision="float32")
    found = separator.separate_batch(gain * around.sum(0)[None, None])
    inner = slice(begin - first, begin - first + length)
    start = torch.cat([found[stem] for stem in loaded.stems])[:, inner]
    return Excerpt(folder.name, gain * around[:, inner], start)


def chain(
    loaded: LoadedPrior, item: Excerpt, setting: Setting, seed: int
) -> tuple[list[tuple[float, Tensor]], int]:
    """The sweeps of one chain, and its denoiser calls."""
    sampler = Recording(**setting.options)
    prior, calls = counted(loaded.prior.with_event_shape(tuple(item.truth.shape)))
    likelihood = GaussianLikelihood(
        MixtureSum(len(item.truth)), item.truth.sum(0)[None, None], NOISE_STD
    )
    generator = generator_for(0, item.track, seed)
    start = item.start[None] if setting.start else None
    sampler.sample(prior, likelihood, generator=[generator], start=start)
    return sampler.sweeps, calls.forward


def static_split(loaded: LoadedPrior, item: Excerpt) -> Tensor:
    network: Any = loaded.network
    known = Posterior(0 * item.truth[None], network.band_variance(torch.tensor(1e4)), network)
    given = condition(MixtureSum(len(item.truth)), known, NOISE_STD)
    return given.shift(item.truth.sum(0)[None, None])[0]


def averages(
    sweeps: list[tuple[float, Tensor]], ranges: list[list[float]]
) -> Iterator[tuple[str, Tensor]]:
    """Range -> mean of the chain, where a sweep lies in it."""
    for low, high in ranges:
        kept = [m for noise, m in sweeps if low <= noise <= high]
        if kept:
            yield f"{low:g} .. {high:g}", torch.stack(kept).mean(0)


@dataclass(frozen=True)
class Results:
    """Of chains, in a folder: gains in chains.jsonl, beside the stems of each."""

    folder: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        file = self.folder / "chains.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def excerpt(self, track: Path, loaded: LoadedPrior, length: int) -> Excerpt:
        """``excerpt``, kept."""
        file = self.folder / f"{track.name}_{length}.pt"
        if not file.exists():
            item = excerpt(track, loaded, length)
            torch.save((item.truth.clone(), item.start.clone()), file)
        return Excerpt(track.name, *torch.load(file, weights_only=True))

    def add(self, row: dict[str, Any], means: dict[str, Tensor]) -> None:
        torch.save(means, self._stems(row))
        with (self.folder / "chains.jsonl").open("a") as out:
            out.write(json.dumps(row) + "\n")

    def _stems(self, row: dict[str, Any]) -> Path:
        words = "".join(c if c.isalnum() else "-" for c in row["setting"])
        return self.folder / f"{words}_{row['track']}_{row['chain']}.pt"

    def table(self, items: list[Excerpt], settings: list[Setting]) -> Iterator[list[str]]:
        """A row for each setting and each range that all of its chains reach."""
        rows = self.rows
        for setting in settings:
            mine = [row for row in rows if row["setting"] == setting.name]
            keys = mine[0]["gains"] if mine else []
            for key in [key for key in keys if all(key in row["gains"] for row in mine)]:
                means = []
                for item in items:
                    found = [
                        torch.load(self._stems(row), weights_only=True)[key]
                        for row in mine
                        if row["track"] == item.track
                    ]
                    means.append(item.gain(torch.stack(found).mean(0)))
                one = f"{fmean(row['gains'][key] for row in mine):.2f}"
                several = f"{fmean(means):.2f}" if len(mine) > len(items) else "-"
                yield [setting.name, key, one, several, str(mine[0]["calls"])]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stems", type=Path, required=True, metavar="VALIDATION")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--conf", type=Path, default=HERE / "conf/mean.toml")
    parser.add_argument("--prior", default="mini-slakh-v2")
    parser.add_argument("--tracks", type=int, default=4)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--samples", type=int, default=16384, help="of an excerpt")
    options = parser.parse_args()
    conf = load_toml(options.conf)
    settings = [from_mapping(Setting, table, str(options.conf)) for table in conf["settings"]]
    loaded = load_prior(options.prior)
    options.output.mkdir(parents=True, exist_ok=True)
    results = Results(options.output)
    done = {(row["setting"], row["track"], row["chain"]) for row in results.rows}
    folders = sorted(path for path in options.stems.iterdir() if path.is_dir())[: options.tracks]
    items = [results.excerpt(folder, loaded, options.samples) for folder in folders]
    for number, setting, item in product(range(options.chains), settings, items):
        if (setting.name, item.track, number) in done:
            continue
        sweeps, calls = chain(loaded, item, setting, number)
        means = dict(averages(sweeps, conf["ranges"]))
        row = {"setting": setting.name, "track": item.track, "chain": number, "calls": calls}
        results.add(row | {"gains": {key: item.gain(x) for key, x in means.items()}}, means)
    print("| setting | averaged | one chain | mean of the chains | calls of a chain |")
    print("|---|---|---:|---:|---:|")
    for name, found in (
        ("static split", [static_split(loaded, item) for item in items]),
        ("default", [item.start for item in items]),
    ):
        gains = [item.gain(x) for item, x in zip(items, found, strict=True)]
        print(tables.row([name, "-", f"{fmean(gains):.2f}", "-", "-"]))
    for cells in results.table(items, settings):
        print(tables.row(cells))


if __name__ == "__main__":
    run(main)
