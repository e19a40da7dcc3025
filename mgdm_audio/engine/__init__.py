"""The engine runs a sampler's preset on a prior on a device, for music and images."""

from mgdm_audio.engine.device import at_precision, choose_device
from mgdm_audio.engine.runner import Runner

__all__ = ["Runner", "at_precision", "choose_device"]
