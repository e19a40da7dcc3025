"""A local page that separates the files dropped on it, one after the other."""

from mgdm_audio.serve.app import make_app
from mgdm_audio.serve.jobs import Jobs, separation

__all__ = ["Jobs", "make_app", "separation"]
