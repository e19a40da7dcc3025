"""Settings of the samplers for images: those of the MGDM paper's comparison (2502.03332)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgdm_audio.config import ConfigError, load_toml, nearest
from mgdm_audio.samplers.presets import Preset, load_preset

FOLDER = Path(__file__).parent
TASKS = FOLDER.parent / "task_settings.toml"  # preset.task = what it changes there
DEFAULT = "mgdm"

__all__ = ["DEFAULT", "list_image_presets", "load_image_preset"]


def list_image_presets() -> list[str]:
    """Names of the bundled settings for images, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_image_preset(name_or_path: str | Path, task: str, overrides: Sequence[str] = ()) -> Preset:
    """The setting for images of that name, or a file.

    Where the comparison has a value of its own for a task, that is taken; ``overrides`` come after,
    as in ``load_preset``. Raises ``ConfigError`` for an unknown name, key or value, and for speeds,
    which a signal in time has.
    """
    name = str(name_or_path)
    if name in list_image_presets():
        of_task = load_toml(TASKS).get(name, {}).get(task, [])
        preset = load_preset(FOLDER / f"{name}.toml", [*of_task, *overrides])
    elif name.endswith(".toml"):
        preset = load_preset(name_or_path, overrides)
    else:
        near = nearest(name, list_image_presets())
        raise ConfigError(f"no preset '{name}', nor a .toml file{near}")
    if preset.speeds != (0,):
        raise ConfigError(f"{name}: speeds = {list(preset.speeds)}: images have none; leave it out")
    return preset
