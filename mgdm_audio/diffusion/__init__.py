"""The prior: this folder defines noise schedules, the bridge kernel and denoisers."""

from mgdm_audio.diffusion.bridge import (
    BridgeCoefficients,
    bridge,
    ddim,
    ddim_step,
    sample_bridge,
    sample_forward,
)
from mgdm_audio.diffusion.counting import counted
from mgdm_audio.diffusion.denoiser import (
    CallCounter,
    Denoiser,
    EDMDenoiser,
    EpsDenoiser,
    SampleDenoiser,
    VDenoiser,
)
from mgdm_audio.diffusion.gaussian import GaussianDenoiser
from mgdm_audio.diffusion.joint import JointDenoiser, join
from mgdm_audio.diffusion.posterior import (
    Covariance,
    JacobianPosterior,
    MixtureDenoiser,
    Posterior,
    posterior_of,
    predict_posterior,
)
from mgdm_audio.diffusion.prior import Codec, Prior
from mgdm_audio.diffusion.schedule import Level, NoiseSchedule, karras_levels

__all__ = [
    "BridgeCoefficients",
    "CallCounter",
    "Codec",
    "Covariance",
    "Denoiser",
    "EDMDenoiser",
    "EpsDenoiser",
    "GaussianDenoiser",
    "JacobianPosterior",
    "JointDenoiser",
    "Level",
    "MixtureDenoiser",
    "NoiseSchedule",
    "Posterior",
    "Prior",
    "SampleDenoiser",
    "VDenoiser",
    "bridge",
    "counted",
    "ddim",
    "ddim_step",
    "join",
    "karras_levels",
    "posterior_of",
    "predict_posterior",
    "sample_bridge",
    "sample_forward",
]
