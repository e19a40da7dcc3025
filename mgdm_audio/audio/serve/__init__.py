"""A local page that separates the files dropped on it, one after the other."""

from mgdm_audio.audio.serve.app import make_app
from mgdm_audio.audio.serve.jobs import Jobs
from mgdm_audio.audio.serve.work import separation

__all__ = ["Jobs", "make_app", "separation"]
