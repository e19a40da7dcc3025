"""Former place of ``separation.former``, see ``audio.moved``."""

from mgdm_audio.audio import moved

__getattr__ = moved(__name__, "mgdm_audio.separation.former")
