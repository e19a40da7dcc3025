"""Presets for images, with the settings of the MGDM paper's comparison (arXiv 2502.03332)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgdm_audio.config import ConfigError, load_toml, nearest
from mgdm_audio.samplers.presets import NO_ROW, Preset, load_preset

FOLDER = Path(__file__).parent
TASKS = FOLDER.parent / "task_settings.toml"  # preset.task = the overrides for that task
DEFAULT = "mgdm"
PUBLISHED_TASKS = frozenset(
    {
        "sr4", "sr16", "inpainting_center", "outpainting_half", "blur", "blur_svd", "motion_blur",
        "nonlinear_blur", "jpeg", "phase_retrieval", "high_dynamic_range",
    }
)  # fmt: skip
"""The tasks of the paper's tables, whose Gaussian deblurring is blur or blur_svd."""

__all__ = ["DEFAULT", "list_image_presets", "load_image_preset"]


def list_image_presets() -> list[str]:
    """Returns the names of the bundled presets for images, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_image_preset(name_or_path: str | Path, task: str, overrides: Sequence[str] = ()) -> Preset:
    """Returns the preset for images of that name, or in that ``.toml`` file, for a task.

    Values that the comparison has for this task only are applied first, then ``overrides``, as in
    ``load_preset``. For a task that is not in ``PUBLISHED_TASKS``, ``published`` is "none". Raises
    ``ConfigError`` for an unknown name, key or value, and for a table [separation], which is for
    music.
    """
    name = str(name_or_path)
    if name in list_image_presets():
        of_task = load_toml(TASKS).get(name, {}).get(task, [])
        row = [] if task in PUBLISHED_TASKS else [f"published={NO_ROW}"]
        preset = load_preset(FOLDER / f"{name}.toml", overrides, settled=[*of_task, *row])
    elif name.endswith(".toml"):
        preset = load_preset(name_or_path, overrides)
    else:
        near = nearest(name, list_image_presets())
        raise ConfigError(f"no preset '{name}', nor a .toml file{near}")
    if preset.separation:
        raise ConfigError(f"{name}: [separation] is for sound; leave it out for images")
    return preset
