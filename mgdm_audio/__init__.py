"""Music source separation with a diffusion prior: prior x likelihood -> posterior.

    from mgdm_audio import Separator

    separator = Separator.from_pretrained("mini-slakh-v2")
    stems = separator.separate("song.wav")

Public names are resolved on first use, so that importing the package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mgdm_audio.version import __version__

if TYPE_CHECKING:
    from mgdm_audio.audio.separator import Separator
    from mgdm_audio.checkpoint import LoadedPrior, list_priors, load_prior
    from mgdm_audio.diffusion import NoiseSchedule, Prior
    from mgdm_audio.errors import UserError
    from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
    from mgdm_audio.samplers import MGDM

_HOMES = {
    "Separator": "mgdm_audio.audio.separator",
    "LoadedPrior": "mgdm_audio.checkpoint",
    "list_priors": "mgdm_audio.checkpoint",
    "load_prior": "mgdm_audio.checkpoint",
    "NoiseSchedule": "mgdm_audio.diffusion",
    "Prior": "mgdm_audio.diffusion",
    "UserError": "mgdm_audio.errors",
    "GaussianLikelihood": "mgdm_audio.measurement",
    "MixtureSum": "mgdm_audio.measurement",
    "MGDM": "mgdm_audio.samplers",
}

__all__ = [
    "MGDM",
    "GaussianLikelihood",
    "LoadedPrior",
    "MixtureSum",
    "NoiseSchedule",
    "Prior",
    "Separator",
    "UserError",
    "__version__",
    "list_priors",
    "load_prior",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
