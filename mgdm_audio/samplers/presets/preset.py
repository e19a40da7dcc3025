"""Presets: named settings of the samplers in TOML files, bundled here or the user's own.

The line ``published`` of a file names the row of a published table with the same sampler and
settings, or is "none". Where no other paper is named, it is that of MGDM (arXiv 2502.03332). Tables
of results print it in the column "published row", which ``STANDS_FOR`` explains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from mgdm_audio.config import ConfigError, apply_overrides, from_mapping, load_toml, nearest
from mgdm_audio.digest import hash_own_code
from mgdm_audio.errors import UserError
from mgdm_audio.ranges import Checked, Rule, within
from mgdm_audio.samplers import SAMPLERS, Sampler

FOLDER = Path(__file__).parent
NO_ROW = "none"  # no row of a published table has these settings
NO_START = "none"  # the sampler starts from noise
STANDS_FOR = (
    "published row: the row of the MGDM paper (arXiv 2502.03332), or of the paper named, with the "
    "same sampler and settings; its prior or the options of its task may differ."
)


def is_mean(options: Mapping[str, Any]) -> bool:
    """Whether these options of a sampler are Wiener guidance in one step: a conditional mean."""
    return options.get("num_steps") == 1 and "amortised" in options


@dataclass(frozen=True)
class Preset:
    """A ``Preset`` holds a sampler and the settings of the likelihood and of the estimate."""

    name: str  # the preset's name, or that of its file
    sampler: Sampler  # ready to run
    noise_std: float  # sigma_y of the likelihood
    draws: int  # the number of posterior samples averaged into one estimate
    options: dict[str, Any]  # all hyper-parameters of the sampler, for the record
    separation: dict[str, Any] = field(default_factory=dict)  # settings of a separator alone
    published: str = NO_ROW  # the row of a published table with these settings
    start: Preset | None = None  # estimates the track that the sampler starts from; None: noise

    def stands_for(self, draws: int | None = None) -> str:
        """Returns ``published``, or ``NO_ROW`` if ``draws`` is not the preset's number."""
        return self.published if draws in (None, self.draws) else NO_ROW

    @property
    def draws_means(self) -> bool:
        """Whether a draw is E[x_0 | y], from noise in one step."""
        return self.start is None and is_mean(self.options)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that a draw depends on, for the record."""
        settings = {"options": self.options, "noise_std": self.noise_std}
        return settings if self.start is None else settings | {"start_from": self.start_record}

    @property
    def start_record(self) -> dict[str, Any] | None:
        """All settings that the starting estimate depends on, for the record."""
        if self.start is None:
            return None
        return {
            "sampler": self.start.name,
            **self.start.settings,
            "draws": self.start.draws,
            "separation": self.start.separation,
            "own_code_sha256": hash_own_code(type(self.start.sampler)),
        }


_RANGES = "noise_std is positive and finite, draws is at least 1"
_ROW = Rule(
    lambda row: row.isprintable() and row.strip() and "|" not in row,
    f"{{name}} = {{value!r}}: name the row of a table, in one line without |, or write {NO_ROW!r}",
)


@dataclass(frozen=True)
class _File(Checked):
    """The contents of a preset's file."""

    sampler: str
    noise_std: Annotated[float, within("(0, inf)", _RANGES)] = 1e-4
    draws: Annotated[int, within("[1, inf)", _RANGES)] = 1
    published: Annotated[str, _ROW] = NO_ROW
    start_from: str = NO_START
    options: dict[str, Any] = field(default_factory=dict)
    separation: dict[str, Any] = field(default_factory=dict)


def list_presets() -> list[str]:
    """Returns the names of the bundled presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_preset(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, settled: Sequence[str] = ()
) -> Preset:
    """Returns the bundled preset of that name, or the preset in that ``.toml`` file.

    ``overrides``: ``["gibbs_steps=2", "noise_std=1e-3", "vi_steps.base=5"]``. A key that is not
    one of the file's own (sampler, noise_std, draws, published, start_from, options, separation) is
    an option of the sampler. With changed options a preset has no published row, unless they name
    one.
    ``settled``: overrides that come first and are part of the preset, as those of an image task.
    Raises ``ConfigError`` for an unknown name (naming the nearest), key, value or file.
    """
    path, where = _find(str(name_or_path)), str(name_or_path)
    table = apply_overrides(load_toml(path), _in_full(settled))
    preset = _resolve(apply_overrides(table, _in_full(overrides)), path.stem, where)
    named = any(o.partition("=")[0].strip() == "published" for o in overrides)
    if overrides and not named:
        try:
            changed = preset != _resolve(table, path.stem, where)
        except ConfigError:  # the file is incomplete without the overrides
            changed = True
        preset = replace(preset, published=NO_ROW) if changed else preset
    return preset


def _in_full(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides with keys that start at the file's top level."""
    own = {f.name for f in dataclasses.fields(_File)}
    keys = [o.partition("=")[0].partition(".")[0].strip() for o in overrides]
    return [o if k in own else f"options.{o}" for o, k in zip(overrides, keys, strict=True)]


def _resolve(table: Mapping[str, Any], name: str, where: str) -> Preset:
    file = from_mapping(_File, table, where)
    try:
        cls = SAMPLERS.find(file.sampler)
    except UserError as error:
        raise ConfigError(f"{where}: {error}") from None
    sampler = from_mapping(cls, file.options, f"{where}: options")
    options = dataclasses.asdict(sampler)
    start = _resolve_start(file, sampler, where)
    return Preset(
        name, sampler, file.noise_std, file.draws, options, file.separation, file.published, start
    )


def _resolve_start(file: _File, sampler: Any, where: str) -> Preset | None:
    """The preset or file that ``file`` starts from, which begins at noise."""
    if file.start_from == NO_START:
        return None
    where = f"{where}: start_from = {file.start_from!r}"
    if not getattr(sampler, "takes_start", False):
        raise ConfigError(f"{where}: sampler {file.sampler} begins at noise; leave it out")
    try:
        path = _find(file.start_from)
        table = load_toml(path)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if table.get("start_from", NO_START) != NO_START:
        raise ConfigError(
            f"{where}: it starts from another itself; give a preset that begins at noise"
        )
    return _resolve(table, path.stem, f"{where}: {file.start_from}")


def _find(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    if name not in list_presets():
        raise ConfigError(f"no preset '{name}', nor a .toml file{nearest(name, list_presets())}")
    return FOLDER / f"{name}.toml"
