"""Former place of ``output.layout``, see ``audio.moved``."""

from mgdm_audio.audio import moved

__getattr__ = moved(__name__, "mgdm_audio.output.layout")
