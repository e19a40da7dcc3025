"""Named settings of the samplers: TOML files, bundled here or the user's own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgdm_audio.config import ConfigError, apply_overrides, from_mapping, load_toml, nearest
from mgdm_audio.samplers import SAMPLERS, Sampler

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Preset:
    """A sampler ready to run. ``options`` are its resolved hyper-parameters, for the record."""

    name: str
    sampler: Sampler
    noise_std: float  # sigma_y given to the likelihood
    draws: int  # posterior draws averaged into one estimate
    options: dict[str, Any]
    speeds: tuple[float, ...] = (0.0,)  # semitones; the draws of a signal in time take turns

    @property
    def settings(self) -> dict[str, Any]:
        """What decides a draw, for the record."""
        speeds = list(self.speeds)
        return {"options": self.options, "noise_std": self.noise_std, "speeds": speeds}


@dataclass(frozen=True)
class _File:
    """A preset as written."""

    sampler: str
    noise_std: float = 1e-4
    draws: int = 1
    speeds: tuple[float, ...] = (0.0,)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"unknown sampler '{self.sampler}'{nearest(self.sampler, SAMPLERS)}")
        if not 0 < self.noise_std < math.inf or self.draws < 1:
            raise ValueError("noise_std is positive and finite, draws is at least 1")
        if not self.speeds or self.speeds[0] != 0 or not all(abs(s) <= 12 for s in self.speeds):
            raise ValueError(f"speeds = {list(self.speeds)}: semitones, 0 first, up to 12 or -12")


def list_presets() -> list[str]:
    """Names of the bundled presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_preset(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Preset:
    """The bundled preset of that name, or the preset in that ``.toml`` file.

    ``overrides``: ``["gibbs_steps=2", "noise_std=1e-3", "vi_steps.base=5"]``. A key that is not
    one of the file's own (sampler, noise_std, draws, speeds, options) is an option of the sampler.
    Raises ``ConfigError`` for an unknown name (naming the nearest), key, value or file.
    """
    path, where = _find(str(name_or_path)), str(name_or_path)
    own = {f.name for f in dataclasses.fields(_File)}
    full = [
        o if o.split("=")[0].split(".")[0].strip() in own else f"options.{o}" for o in overrides
    ]
    file = from_mapping(_File, apply_overrides(load_toml(path), full), where)
    sampler = from_mapping(SAMPLERS[file.sampler], file.options, f"{where}: options")
    options = dataclasses.asdict(sampler)
    return Preset(path.stem, sampler, file.noise_std, file.draws, options, file.speeds)


def _find(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    if name not in list_presets():
        raise ConfigError(f"no preset '{name}', nor a .toml file{nearest(name, list_presets())}")
    return FOLDER / f"{name}.toml"
