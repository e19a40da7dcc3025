"""Former place of ``audio.files``, see ``audio.moved``."""

from mgdm_audio.audio import moved

__getattr__ = moved(__name__, "mgdm_audio.audio.files")
