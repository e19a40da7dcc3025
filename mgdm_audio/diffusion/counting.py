"""How often a prior's network is called: the cost that papers quote."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from mgdm_audio.diffusion.denoiser import CallCounter
from mgdm_audio.diffusion.posterior import MixtureDenoiser, MixtureNetwork
from mgdm_audio.diffusion.prior import Prior


def counted(prior: Prior) -> tuple[Prior, CallCounter]:
    """The same prior and the counter that its calls go through."""
    if isinstance(known := prior.denoiser, MixtureDenoiser):
        counter = CallCounter(known.network)
        network = cast(MixtureNetwork, counter)  # it passes on what it does not count
        denoiser = MixtureDenoiser(network, known.mixture, known.calibration)
        return replace(prior, denoiser=denoiser), counter
    counter = CallCounter(prior.denoiser)
    return replace(prior, denoiser=counter), counter
