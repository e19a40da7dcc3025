"""Counts the calls of a prior's network, which is the cost that papers quote."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from mgdm_audio.diffusion.denoiser import CallCounter
from mgdm_audio.diffusion.posterior import MixtureDenoiser, MixtureNetwork
from mgdm_audio.diffusion.prior import Prior


def counted(prior: Prior) -> tuple[Prior, CallCounter]:
    """Returns the prior with its network wrapped in a ``CallCounter``, and that counter."""
    if isinstance(original := prior.denoiser, MixtureDenoiser):
        counter = CallCounter(original.network)
        network = cast(MixtureNetwork, counter)  # the counter forwards all other attributes
        denoiser = MixtureDenoiser(network, original.mixture, original.calibration)
        return replace(prior, denoiser=denoiser), counter
    counter = CallCounter(prior.denoiser)
    return replace(prior, denoiser=counter), counter
