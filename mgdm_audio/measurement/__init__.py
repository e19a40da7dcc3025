"""The likelihood: forward operators and the noise on what they observe."""

from mgdm_audio.measurement.likelihood import GaussianLikelihood, Likelihood
from mgdm_audio.measurement.masking import KnownSources, Mask
from mgdm_audio.measurement.mixture import MixtureSum, SourceMatrix
from mgdm_audio.measurement.operator import (
    LinearOperator,
    Operator,
    SpectralOperator,
    compose,
)
from mgdm_audio.measurement.stacked import Stacked

__all__ = [
    "GaussianLikelihood",
    "KnownSources",
    "Likelihood",
    "LinearOperator",
    "Mask",
    "MixtureSum",
    "Operator",
    "SourceMatrix",
    "SpectralOperator",
    "Stacked",
    "compose",
]
