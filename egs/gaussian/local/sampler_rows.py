"""The rows of the tables where the posterior is known: samplers, and what they stand for."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mgdm_audio.diffusion import CallCounter, Prior, counted
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import Generators
from mgdm_audio.samplers import Sampler
from mgdm_audio.samplers.presets import NO_ROW, load_preset

SLAKH = Path(__file__).resolve().parents[2] / "slakh2100/msdm/conf"  # MGDM by its sweeps


class Row(NamedTuple):
    """A sampler of a table."""

    sampler: Sampler
    stands_for: str = NO_ROW
    prior: Prior | None = None  # where it is not the table's: the same one on latents
    start: Sampler | None = None  # whose draws the sampler starts from, each from its own


PUBLISHED: tuple[tuple[str, ...], ...] = (
    ("dps",),
    ("dps", "step_size=0.01"),
    ("pgdm",),
    ("ddnm", "plus=false"),
    ("ddnm",),
    ("ddrm",),
    ("diffpir",),
    ("reddiff",),
    ("reddiff-code",),
    ("daps",),
    ("pnp-dm",),
    ("pnp-dm", "likelihood_step=exact"),
    ("msdm-dirac",),
    ("msdm-gaussian",),
    ("mgps",),
    ("ding",),
    ("guess-and-guide",),
)
"""Presets of the other methods, some with changes, for any prior over stems."""


def preset_row(preset: str | Path, *changes: str) -> dict[str, Row]:
    """A preset as it is, `in code quotes`, or with changes to it; and its row."""
    found = load_preset(preset, changes)
    label = " ".join([found.name, *changes])
    if found == load_preset(preset):
        label = f"`{found.name}`"
    start = None if found.start is None else found.start.sampler
    return {label: Row(found.sampler, found.stands_for(), start=start)}


def published() -> dict[str, Row]:
    """The rows of ``PUBLISHED``."""
    rows = {}
    for preset, *changes in PUBLISHED:
        rows |= preset_row(preset, *changes)
    return rows


def latent(where: str, prior: Prior) -> dict[str, Row]:
    """The latent samplers on a prior with a codec; ``where`` names its latents."""
    rows = {}
    for preset in ("psld", "resample"):
        ((label, row),) = preset_row(preset).items()
        rows[f"{label} on {where}"] = row._replace(prior=prior)
    return rows


def mgdm(sweeps: Iterable[int]) -> dict[str, Row]:
    """MGDM as its code and as its paper has it, with R sweeps each; then its R = 1, G = 90."""
    rows = {}
    for r in sweeps:
        rows |= preset_row("mgdm-code", f"gibbs_steps={r}")
    for r in sweeps:
        of_figure = SLAKH / f"mgdm-r{r}.toml"
        if r != 6 and of_figure.is_file():
            rows |= preset_row(of_figure)
        else:
            rows |= preset_row("mgdm", f"gibbs_steps={r}")
    return rows | preset_row("mgdm-r1-g90")


def draw(
    row: Row, prior: Prior, y: Tensor, noise_std: float, generator: Generators
) -> tuple[Tensor, CallCounter]:
    """Draws [batch, source, time] given the mixtures ``y: [batch, 1, time]``, and their calls."""
    likelihood = GaussianLikelihood(MixtureSum(prior.event_shape[0]), y, noise_std)
    known, counter = counted(row.prior or prior)
    options = {}
    if row.start is not None:
        options["start"] = row.start.sample(known, likelihood, generator=generator)
    return row.sampler.sample(known, likelihood, generator=generator, **options), counter


ONLY = "rows whose name has this regular expression"


def pattern(text: str) -> re.Pattern[str]:
    """An option that is a regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def chosen(names: Iterable[str], only: re.Pattern[str]) -> Iterator[str]:
    """The names in which ``only`` is found."""
    return filter(only.search, names)


def spread(values: list[float], digits: int) -> str:
    """Mean and, behind it, half of the range."""
    mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
    return f"{mean:.{digits}f} ± {half:.{digits}f}"
