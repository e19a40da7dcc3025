"""A preset is a named setting of a sampler, stored in a TOML file."""

from mgdm_audio.samplers.presets.preset import (
    NO_ROW,
    STANDS_FOR,
    Preset,
    list_presets,
    load_preset,
)

__all__ = ["NO_ROW", "STANDS_FOR", "Preset", "list_presets", "load_preset"]
