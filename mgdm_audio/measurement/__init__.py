"""The likelihood: this folder defines forward operators and the noise of the observation."""

from mgdm_audio.measurement.filtering import (
    Blur,
    Downsampling,
    SeparableBlur,
    SpatiallyVaryingBlur,
)
from mgdm_audio.measurement.jpeg import SoftJPEG
from mgdm_audio.measurement.likelihood import GaussianLikelihood, Likelihood, PoissonLikelihood
from mgdm_audio.measurement.masking import KnownSources, Mask
from mgdm_audio.measurement.mixture import MixtureSum, SourceMatrix
from mgdm_audio.measurement.nonlinear import (
    Affine,
    Clip,
    Function,
    Idempotent,
    PhaseRetrieval,
)
from mgdm_audio.measurement.operator import (
    LinearOperator,
    Operator,
    SpectralOperator,
    compose,
)
from mgdm_audio.measurement.separable import Separable
from mgdm_audio.measurement.stacked import Stacked
from mgdm_audio.measurement.symmetries import ShiftsAndTurn

__all__ = [
    "Affine",
    "Blur",
    "Clip",
    "Downsampling",
    "Function",
    "GaussianLikelihood",
    "Idempotent",
    "KnownSources",
    "Likelihood",
    "LinearOperator",
    "Mask",
    "MixtureSum",
    "Operator",
    "PhaseRetrieval",
    "PoissonLikelihood",
    "Separable",
    "SeparableBlur",
    "ShiftsAndTurn",
    "SoftJPEG",
    "SourceMatrix",
    "SpatiallyVaryingBlur",
    "SpectralOperator",
    "Stacked",
    "compose",
]
