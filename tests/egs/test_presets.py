"""The presets of the recipes."""

from dataclasses import replace
from pathlib import Path

from mgdm_audio.samplers.presets import load_preset

EGS = Path(__file__).parents[2] / "egs"


def test_default_8_is_the_default_with_eight_draws() -> None:
    found = load_preset(EGS / "mini_slakh/separate/conf/default-8.toml")
    assert replace(found, name="default") == load_preset("default", ["draws=8"])
