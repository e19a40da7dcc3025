"""The posterior samplers, one file per paper, and the registry of their names."""

from dataclasses import is_dataclass
from typing import Any

from mgdm_audio.registry import Registry
from mgdm_audio.samplers.ancestral import Ancestral
from mgdm_audio.samplers.base import (
    Needs,
    OnStep,
    PerStep,
    Run,
    Sampler,
    Step,
    Stepwise,
    on_latents,
    require,
    require_codec,
    require_gaussian,
)
from mgdm_audio.samplers.daps import DAPS
from mgdm_audio.samplers.ddnm import DDNM
from mgdm_audio.samplers.ddrm import DDRM
from mgdm_audio.samplers.diffpir import DiffPIR
from mgdm_audio.samplers.ding import DInG
from mgdm_audio.samplers.dps import DPS
from mgdm_audio.samplers.guess_and_guide import GuessAndGuide
from mgdm_audio.samplers.mgdm import MGDM
from mgdm_audio.samplers.mgdm_covariance import CovarianceMGDM
from mgdm_audio.samplers.mgdm_mean import MeanMGDM
from mgdm_audio.samplers.mgps import MGPS
from mgdm_audio.samplers.msdm import MSDM
from mgdm_audio.samplers.pgdm import PGDM
from mgdm_audio.samplers.pnp_dm import PnPDM
from mgdm_audio.samplers.psld import PSLD
from mgdm_audio.samplers.reddiff import REDDiff
from mgdm_audio.samplers.resample import ReSample
from mgdm_audio.samplers.wiener import WienerGuidance


def _fault(value: Any) -> str | None:
    is_sampler = isinstance(value, type) and is_dataclass(value)
    if is_sampler and callable(getattr(value, "sample", None)):
        return None
    return "is not a dataclass with a method sample"


_BUILT_IN: dict[str, type[Any]] = {
    "ancestral": Ancestral,
    "daps": DAPS,
    "ddnm": DDNM,
    "ddrm": DDRM,
    "diffpir": DiffPIR,
    "ding": DInG,
    "dps": DPS,
    "guess-and-guide": GuessAndGuide,
    "mgdm": MGDM,
    "mgdm-covariance": CovarianceMGDM,
    "mgdm-mean": MeanMGDM,
    "mgps": MGPS,
    "msdm": MSDM,
    "pgdm": PGDM,
    "pnp-dm": PnPDM,
    "psld": PSLD,
    "reddiff": REDDiff,
    "resample": ReSample,
    "wiener": WienerGuidance,
}
SAMPLERS = Registry("sampler", "mgdm_audio.samplers", _fault, _BUILT_IN)
"""Every sampler by the name that presets use; the shared tests run on all of them."""

__all__ = [
    "DAPS",
    "DDNM",
    "DDRM",
    "DPS",
    "MGDM",
    "MGPS",
    "MSDM",
    "PGDM",
    "PSLD",
    "SAMPLERS",
    "Ancestral",
    "CovarianceMGDM",
    "DInG",
    "DiffPIR",
    "GuessAndGuide",
    "MeanMGDM",
    "Needs",
    "OnStep",
    "PerStep",
    "PnPDM",
    "REDDiff",
    "ReSample",
    "Run",
    "Sampler",
    "Step",
    "Stepwise",
    "WienerGuidance",
    "on_latents",
    "require",
    "require_codec",
    "require_gaussian",
]
