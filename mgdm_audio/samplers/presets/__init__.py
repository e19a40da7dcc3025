"""Named settings of the samplers, and the TOML files that hold them."""

from mgdm_audio.samplers.presets.preset import Preset, list_presets, load_preset

__all__ = ["Preset", "list_presets", "load_preset"]
