"""Named settings of the samplers, and the TOML files that hold them."""

from mgdm_audio.samplers.presets.preset import (
    NO_ROW,
    STANDS_FOR,
    Preset,
    list_presets,
    load_preset,
)

__all__ = ["NO_ROW", "STANDS_FOR", "Preset", "list_presets", "load_preset"]
