"""A benchmark's suite is a TOML file that names sets of tracks and systems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from mgdm_audio.config import from_mapping, load_toml, nearest
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.benchmark.baselines import NAMES
from mgdm_audio.priors.folder import DEFAULT_PRIOR
from mgdm_audio.ranges import Checked, Count, Rule, filled, within
from mgdm_audio.separation.segments import Level

_NAME = Rule(
    lambda name: re.fullmatch(r"\w[\w .+-]*", name) is not None,
    "name {value!r}: use letters, digits and . + - _, as it names a folder",
)
_SECONDS = within("(0, inf)", "set {of.name!r}: seconds = {value}: give more than 0")
_TRACKS = within("[1, inf)", "set {of.name!r}: tracks = {value}: give at least 1")
_DRAWS = within("[1, inf)", "system {of.name!r}: draws = {value}: give at least 1")
_FILLED = filled("{name} are missing; give at least one [[{name}]]")


@dataclass(frozen=True)
class TrackSet(Checked):
    """An entry of ``[[sets]]`` describes tracks with their true stems."""

    name: Annotated[str, _NAME]
    reference: str = (
        ""  # folder of <track>/<stem>.wav or the like; empty: given when the suite is run
    )
    seconds: Annotated[float | None, _SECONDS] = None  # length of an excerpt; None: whole tracks
    start: float | None = None  # of the excerpt, in seconds; by default it is in the middle
    per_track: int = 1  # number of evenly spread excerpts; each counts as a track
    tracks: Annotated[int | None, _TRACKS] = None  # use only the first tracks, this many

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is not None and (self.seconds is None or not 0 <= self.start < float("inf")):
            raise ValueError(f"set {self.name!r}: start must be >= 0 and needs seconds")
        if self.per_track != 1 and (
            self.per_track < 1 or not self.seconds or self.start is not None
        ):
            raise ValueError(
                f"set {self.name!r}: per_track must be >= 1 and needs seconds without start"
            )

    @property
    def positions(self) -> list[float]:
        """The positions of the excerpts in a track, see ``Row``."""
        return [(i + 0.5) / self.per_track for i in range(self.per_track)]


@dataclass(frozen=True)
class System(Checked):
    """An entry of ``[[systems]]`` describes a preset with changes, or a reference system.

    The reference systems are mixture, wiener-split and oracle-mask, see
    ``mgdm_audio.evaluation.benchmark.baselines``.
    """

    name: Annotated[str, _NAME]
    preset: str = ""  # a name or a .toml file; empty: the system's name
    overrides: tuple[str, ...] = ()  # changed settings, such as "num_steps=20"
    draws: Annotated[int | None, _DRAWS] = None  # None: the preset's number

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_reference and (self.overrides or self.draws):
            raise ValueError(f"system {self.name!r}: {self.source} has no options; remove them")

    @property
    def source(self) -> str:
        return self.preset or self.name

    @property
    def is_reference(self) -> bool:
        return self.source in NAMES


@dataclass(frozen=True)
class Suite(Checked):
    """The contents of a suite's TOML file."""

    sets: Annotated[tuple[TrackSet, ...], _FILLED]
    systems: Annotated[tuple[System, ...], _FILLED]
    prior: str = DEFAULT_PRIOR
    seed: int = 0  # added to the number in a track's name
    device: str = "auto"
    level: Level = "rms"  # "rms" scales mixtures to the prior's level, "none" does not
    precision: str = "auto"
    batch_size: Count | None = None  # draws in one network call on a GPU; by default 8
    metrics: tuple[str, ...] = ()  # beside SI-SDRi, by their names in ``METRICS``: "mr-stft"

    def __post_init__(self) -> None:
        super().__post_init__()
        for what in ("sets", "systems"):
            names = [item.name for item in getattr(self, what)]
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"two {what} are named {twice[0]!r}; rename one")


def load_suite(path: Path) -> Suite:
    """Reads a suite; paths in the file are relative to it. Raises ConfigError if it is invalid."""
    suite = from_mapping(Suite, load_toml(path), str(path))

    def beside(name: str) -> str:
        return str(path.parent / name)

    sets = [replace(s, reference=beside(s.reference)) if s.reference else s for s in suite.sets]
    systems = [
        replace(s, preset=beside(s.source)) if s.source.endswith(".toml") else s
        for s in suite.systems
    ]
    prior = beside(suite.prior) if Path(beside(suite.prior)).is_dir() else suite.prior
    return replace(suite, sets=tuple(sets), systems=tuple(systems), prior=prior)


def with_references(suite: Suite, references: Mapping[str, str]) -> Suite:
    """Returns the suite with other folders for some sets. Raises UserError for an unknown set."""
    names = [item.name for item in suite.sets]
    for name in references:
        if name not in names:
            raise UserError(f"no set is named {name!r} in the suite{nearest(name, names)}")
    sets = tuple(replace(s, reference=references.get(s.name, s.reference)) for s in suite.sets)
    return replace(suite, sets=sets)
