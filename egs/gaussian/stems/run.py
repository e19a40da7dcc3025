#!/usr/bin/env python3
"""Every sampler on real audio where the posterior is known: one draw, and the mean of several.

The prior has independent Gaussian MDCT coefficients with the variances of the given stems. So its
denoiser is exact, E[x_0 | y] is a Wiener filter of the mixture, and exact draws of x_0 given y cost
nothing. Prints SI-SDR improvement over the mixture in dB, mean over the stems: of one draw (mean
and standard deviation over all draws), of the mean of the draws of a seed (mean over the seeds and
half of their range); denoiser calls with and without gradient; and the published row.

    python egs/gaussian/stems/run.py --stems FOLDER --start 15.3 [--only MGDM]

FOLDER holds the stems of one piece of music, FOLDER/{bass,drums,...}.wav or .flac.
A preset as it is stands `in code quotes`, one that is changed with its changes.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from torch import Tensor

from mgdm_audio import tables
from mgdm_audio.audio.files import find_stems
from mgdm_audio.conditioning import condition
from mgdm_audio.diffusion import MixtureDenoiser, NoiseSchedule, Posterior, Prior
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.benchmark.measuring import load_stems
from mgdm_audio.evaluation.metrics import si_sdr_improvement, why_none
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import Generators, generator_for, randn_like
from mgdm_audio.samplers import CovarianceMGDM
from mgdm_audio.samplers.presets import NO_ROW

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "local"), str(HERE.parents[2] / "recipes/local")]
from sampler_rows import (  # noqa: E402
    ONLY,
    Row,
    chosen,
    draw,
    latent,
    mgdm,
    pattern,
    preset_row,
    published,
    spread,
)
from script import run  # noqa: E402
from stem_prior import GaussianStems  # noqa: E402

NOISE_STD = 1e-4  # sigma_y, that of the presets
SWEEPS = (1, 2, 4, 6)  # R


@dataclass(frozen=True)
class Problem:
    """An excerpt of some stems, the prior with its variances, and its mixture."""

    truth: Tensor  # [source, time]
    rate: int  # Hz
    network: GaussianStems
    prior: Prior
    y: Tensor  # [1, 1, time]

    @property
    def posterior(self) -> Posterior:
        """p(x_0) as what is known before y: ``condition`` takes it to what is known after."""
        return Posterior(torch.zeros_like(self.truth)[None], self.network.variance, self.network)

    @property
    def mean(self) -> Tensor:
        """E[x_0 | y], the Wiener filter: [1, source, time]."""
        operator = MixtureSum(len(self.truth))
        return condition(operator, self.posterior, NOISE_STD).shift(self.y)

    @property
    def static(self) -> Tensor:
        """The same for variances that do not change in time: [1, source, time]."""
        shares = MixtureSum(len(self.truth)).wiener_gain(self.network.bands, NOISE_STD**2)
        return self.network.synthesis(shares * self.network.analysis(self.y))

    def gain(self, x: Tensor) -> float:
        """SI-SDR improvement of ``x: [source, time]`` in dB, mean over windows and stems."""
        return float(si_sdr_improvement(x, self.truth, self.rate).mean())


@dataclass(frozen=True)
class Exact:
    """Draws from the posterior itself: a draw from the prior, corrected by what y says of it."""

    problem: Problem

    def sample(
        self, prior: Prior, likelihood: GaussianLikelihood, *, generator: Generators
    ) -> Tensor:
        known = self.problem.posterior
        shape = (len(likelihood.y), *prior.event_shape)
        x = known.root(randn_like(known.mean.expand(shape), generator))
        seen = likelihood.residual(x) - NOISE_STD * randn_like(likelihood.y, generator)
        return x + condition(likelihood.operator, known, NOISE_STD).shift(seen)


class Score(NamedTuple):
    """SI-SDR improvement in dB of one sampler, and its denoiser calls for a batch of draws."""

    draws: list[float]  # each
    means: list[float]  # of the mean of a seed's draws
    forward: int
    gradient: int


def make_problem(truth: Tensor, rate: int, bins: int = 1024) -> Problem:
    """``truth: [source, time]`` at ``rate`` Hz; ``bins``, which divide the time: of the MDCT."""
    network = GaussianStems.of(truth, bins)
    prior = Prior(MixtureDenoiser(network), NoiseSchedule.karras(), tuple(truth.shape))
    return Problem(truth, rate, network, prior, truth.sum(0)[None, None])


def measure(problem: Problem, row: Row, draws: int, seeds: int) -> Score:
    """The score of ``draws`` draws for each of ``seeds`` seeds. A draw has noise of its own."""
    each, means = [], []
    for seed in range(seeds):
        x, counter = draw(
            row,
            problem.prior,
            problem.y.expand(draws, -1, -1),
            NOISE_STD,
            [generator_for(seed, number) for number in range(draws)],
        )
        each += [problem.gain(item) for item in x]
        means.append(problem.gain(x.mean(0)))
    return Score(each, means, counter.forward, counter.gradient)


def samplers(problem: Problem) -> dict[str, Row]:
    """Label -> row."""
    rows = {"exact draws": Row(Exact(problem))}
    rows |= preset_row("default") | preset_row("wiener") | published() | preset_row("isdm-dirac")
    network, schedule = problem.network, problem.prior.schedule
    on_latents = Prior(network.denoise, schedule, tuple(network.variance.shape[1:]), network)
    rows |= latent("the MDCT as latents", on_latents)
    rows |= mgdm(SWEEPS) | preset_row("mgdm-covariance")
    for preset in ("mgdm-mean", "mgdm-refine"):
        rows |= preset_row(preset) | preset_row(preset, "covariance=reported")
    covariant = CovarianceMGDM(covariance="reported", project=True)
    for r in SWEEPS:
        rows[f"MGDM with covariance, R = {r}"] = Row(replace(covariant, gibbs_steps=r))
    return rows


def excerpt(folder: Path, start: float | None, seconds: float, bins: int) -> tuple[Tensor, int]:
    """([source, time], Hz), channels averaged; the time is cut to whole frames of ``bins``."""
    if bins < 2 or bins % 2:
        raise UserError(f"--bins {bins}: give an even number, say 1024")
    if not 0 < seconds < math.inf:
        raise UserError(f"--seconds {seconds:g}: give a positive number, say 2.18")
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder; give one that holds a piece's stems")
    files = find_stems(folder)
    if len(files) < 2:
        raise UserError(f"{folder}: holds {len(files)} stems as .wav or .flac; give two or more")
    stems, rate = load_stems(files)
    frames = min(round(seconds * rate / bins), stems.shape[-1] // bins)
    room = stems.shape[-1] - frames * bins
    begin = room // 2 if start is None else start * rate
    if not 0 <= begin <= room:
        raise UserError(f"--start {start:g}: give a second from 0 to {room / rate:g} of {folder}")
    begin = round(begin)
    truth = stems.mean(1)[:, begin : begin + frames * bins]
    if not len(si_sdr_improvement(truth, truth, rate)):
        raise UserError(f"{folder}: no score, {why_none(truth.shape[-1], rate)}")
    return truth, rate


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stems", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--start", type=float, help="second of the excerpt; by default, the middle")
    parser.add_argument("--seconds", type=float, default=2.18, help="of it, more than 2")
    parser.add_argument("--bins", type=int, default=1024, help="of the MDCT")
    parser.add_argument("--draws", type=int, default=8, help="for each seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", type=pattern, default="", help=ONLY)
    options = parser.parse_args()
    for name, least in (("draws", 2), ("seeds", 1)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} {getattr(options, name)}: give at least {least}")
    truth, rate = excerpt(options.stems, options.start, options.seconds, options.bins)
    problem = make_problem(truth, rate, options.bins)
    several = f"mean of {options.draws}"
    print(f"| sampler | one draw | {several} | calls forward / gradient | published row |")
    print("|---|---:|---:|---:|---|")
    known = {"exact mean, the Wiener filter": problem.mean, "static split per band": problem.static}
    for name, estimate in known.items():
        print(f"| {name} | - | {problem.gain(estimate[0]):.2f} | 0 / 0 | {NO_ROW} |")
    rows = samplers(problem)
    for name in chosen(rows, options.only):
        score = measure(problem, rows[name], options.draws, options.seeds)
        one = f"{fmean(score.draws):.2f} ± {stdev(score.draws):.2f}"
        calls = f"{score.forward} / {score.gradient}"
        several = spread(score.means, 2)
        print(tables.row([name, one, several, calls, rows[name].stands_for]), flush=True)


if __name__ == "__main__":
    run(main)
