"""A local page that separates the files dropped on it, one after the other."""

from mgdm_audio.serve.app import make_app
from mgdm_audio.serve.connections import bounded
from mgdm_audio.serve.jobs import Jobs, separation
from mgdm_audio.serve.limits import Limits, private_room

__all__ = ["Jobs", "Limits", "bounded", "make_app", "private_room", "separation"]
