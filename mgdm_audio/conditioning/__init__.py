"""Gaussian conditioning on y = A x_0 + sigma_y eps, where x_0 ~ N(mean, C).

C is the denoiser's covariance of x_0 given x_t. ``condition`` chooses a method by A and C;
``guidance`` applies it to the states of a diffusion process.
"""

from mgdm_audio.conditioning.base import Conditional, Spread
from mgdm_audio.conditioning.guidance import (
    condition,
    condition_clean,
    condition_state,
    covariant_score,
    draw_deviation,
)
from mgdm_audio.conditioning.mixture import KnownMixture

__all__ = [
    "Conditional",
    "KnownMixture",
    "Spread",
    "condition",
    "condition_clean",
    "condition_state",
    "covariant_score",
    "draw_deviation",
]
