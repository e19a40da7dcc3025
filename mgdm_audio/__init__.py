"""Music source separation with a diffusion prior: prior x likelihood -> posterior.

    from mgdm_audio import Separator

    separator = Separator.from_pretrained("mini-slakh-v3")
    stems = separator.separate("song.wav")

Public names are resolved on first use, so that importing the package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mgdm_audio.version import __version__

if TYPE_CHECKING:
    from mgdm_audio.diffusion import NoiseSchedule, Prior
    from mgdm_audio.errors import UserError
    from mgdm_audio.evaluation.folders import score
    from mgdm_audio.generation.generator import Generator
    from mgdm_audio.images.restorer import Restorer
    from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
    from mgdm_audio.priors.folder import LoadedPrior, list_priors, load_prior
    from mgdm_audio.samplers import MGDM
    from mgdm_audio.samplers.presets import list_presets, load_preset
    from mgdm_audio.separation.result import Separation
    from mgdm_audio.separation.separator import Separator
    from mgdm_audio.training.run import train

_HOMES = {
    "Generator": "mgdm_audio.generation.generator",
    "score": "mgdm_audio.evaluation.folders",
    "Separation": "mgdm_audio.separation.result",
    "Separator": "mgdm_audio.separation.separator",
    "LoadedPrior": "mgdm_audio.priors.folder",
    "list_priors": "mgdm_audio.priors.folder",
    "load_prior": "mgdm_audio.priors.folder",
    "NoiseSchedule": "mgdm_audio.diffusion",
    "Prior": "mgdm_audio.diffusion",
    "UserError": "mgdm_audio.errors",
    "Restorer": "mgdm_audio.images.restorer",
    "GaussianLikelihood": "mgdm_audio.measurement",
    "MixtureSum": "mgdm_audio.measurement",
    "MGDM": "mgdm_audio.samplers",
    "list_presets": "mgdm_audio.samplers.presets",
    "load_preset": "mgdm_audio.samplers.presets",
    "train": "mgdm_audio.training.run",
}

__all__ = [
    "MGDM",
    "GaussianLikelihood",
    "Generator",
    "LoadedPrior",
    "MixtureSum",
    "NoiseSchedule",
    "Prior",
    "Restorer",
    "Separation",
    "Separator",
    "UserError",
    "__version__",
    "list_presets",
    "list_priors",
    "load_preset",
    "load_prior",
    "score",
    "train",
]


if not TYPE_CHECKING:  # which would take any name for one of these

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
