"""The rows of the tables where the posterior is known: every preset, and the row it stands for.

"Stands for" is the row of the MGDM paper's audio table (arXiv 2502.03332, Table 3: separation of
Slakh2100 with MSDM's weights) that a preset repeats the setting of, or of another paper's table.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor

from mgdm_audio.diffusion import CallCounter, Prior, counted
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import Generators
from mgdm_audio.samplers import Sampler
from mgdm_audio.samplers.presets import load_preset

NONE = "none"


class Row(NamedTuple):
    """A sampler of a table."""

    sampler: Sampler
    stands_for: str = NONE
    prior: Prior | None = None  # where it is not the table's: the same one on latents


PUBLISHED: dict[str, tuple[str, list[str], str]] = {
    "DPS, step 1": ("dps", [], "Table 3, DPS"),
    "DPS, step .01": ("dps", ["step_size=0.01"], NONE),
    "PGDM": ("pgdm", [], "Table 3, PGDM"),
    "DDNM": ("ddnm", ["plus=false"], NONE),
    "DDNM+": ("ddnm", [], "none: Table 3 ran the published code, next row"),
    "DDRM": ("ddrm", [], "Table 3, DDNM"),
    "DiffPIR": ("diffpir", [], "Table 3, DiffPIR"),
    "RED-diff": ("reddiff", [], "Table 3, RED-diff, whose levels are DDPM's"),
    "DAPS": ("daps", [], "Table 3, DAPS"),
    "PnP-DM, Langevin": ("pnp-dm", [], "Table 3, PnP-DM, whose lowest level is .02"),
    "PnP-DM, exact linear step": ("pnp-dm", ["likelihood_step=exact"], NONE),
    "MSDM, Dirac": ("msdm-dirac", [], "Table 3, MSDM Dirac"),
    "MSDM, Gaussian": ("msdm-gaussian", [], "2302.02257, MSDM Gaussian"),
    "MGPS": ("mgps", [], NONE),
    "DInG": ("ding", [], NONE),
    "Guess & Guide": ("guess-and-guide", [], NONE),
}
"""Label -> the preset of that audio setting, with changes, and the row that it stands for."""

LATENT = {"PSLD": "psld", "ReSample": "resample"}
"""Label -> preset, of the samplers that need a codec; they were published for images alone."""

PAPER_SWEEPS = {r: f"Fig. 3, R = {r}" for r in (1, 2, 4)} | {6: "Table 3, MGDM R = 6"}
"""R -> the paper's row of MGDM with so many sweeps."""


def published() -> dict[str, Row]:
    """The published samplers but for MGDM, at their presets' audio values."""
    return {
        label: Row(load_preset(preset, changes).sampler, stands_for)
        for label, (preset, changes, stands_for) in PUBLISHED.items()
    }


def latent(where: str, prior: Prior) -> dict[str, Row]:
    """The latent samplers on a prior with a codec; ``where`` names its latents."""
    return {
        f"{label}, {where}": Row(load_preset(preset).sampler, prior=prior)
        for label, preset in LATENT.items()
    }


def mgdm(sweeps: Iterable[int]) -> dict[str, Row]:
    """MGDM as its code and as its paper has it, with R sweeps each; then its R = 1, G = 90."""
    rows = {}
    for preset, name in (("mgdm-code", "published code"), ("mgdm", "paper")):
        for r in sweeps:
            sampler = load_preset(preset, [f"gibbs_steps={r}"]).sampler
            rows[f"MGDM, {name}, R = {r}"] = Row(sampler, PAPER_SWEEPS.get(r, NONE))
    best = load_preset("mgdm-r1-g90").sampler
    rows["MGDM, paper, R = 1, G = 90"] = Row(best, "Table 3, MGDM R = 1, G = 90")
    return rows


def draw(
    row: Row, prior: Prior, y: Tensor, noise_std: float, generator: Generators
) -> tuple[Tensor, CallCounter]:
    """Draws [batch, source, time] given the mixtures ``y: [batch, 1, time]``, and their calls."""
    likelihood = GaussianLikelihood(MixtureSum(prior.event_shape[0]), y, noise_std)
    known, counter = counted(row.prior or prior)
    return row.sampler.sample(known, likelihood, generator=generator), counter


ONLY = "rows whose name has this regular expression"


def pattern(text: str) -> re.Pattern[str]:
    """An option that is a regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def chosen(names: Iterable[str], only: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Of the names in which ``only`` is found, each with its cell in a table."""
    for name in names:
        if only.search(name):
            yield name, name.replace("|", "\\|")  # a bare bar would end the cell


def spread(values: list[float], digits: int) -> str:
    """Mean and, behind it, half of the range."""
    mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
    return f"{mean:.{digits}f} ± {half:.{digits}f}"
