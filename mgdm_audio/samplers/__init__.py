"""The posterior samplers, one paper a file, and the list that names them."""

from typing import Any

from mgdm_audio.samplers.ancestral import Ancestral
from mgdm_audio.samplers.base import (
    OnStep,
    PerStep,
    Sampler,
    Step,
    on_latents,
    require,
    require_codec,
)
from mgdm_audio.samplers.mgdm import MGDM
from mgdm_audio.samplers.psld import PSLD
from mgdm_audio.samplers.resample import ReSample
from mgdm_audio.samplers.wiener import WienerGuidance

SAMPLERS: dict[str, type[Any]] = {
    "ancestral": Ancestral,
    "mgdm": MGDM,
    "psld": PSLD,
    "resample": ReSample,
    "wiener": WienerGuidance,
}
"""Every sampler by the name that presets use; a line here also puts it under the shared tests."""

__all__ = [
    "MGDM",
    "PSLD",
    "SAMPLERS",
    "Ancestral",
    "OnStep",
    "PerStep",
    "ReSample",
    "Sampler",
    "Step",
    "WienerGuidance",
    "on_latents",
    "require",
    "require_codec",
]
