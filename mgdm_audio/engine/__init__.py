"""A sampler's preset run on a prior on a device: stems, generated music and images alike."""

from mgdm_audio.engine.device import at_precision, choose_device
from mgdm_audio.engine.runner import Runner

__all__ = ["Runner", "at_precision", "choose_device"]
