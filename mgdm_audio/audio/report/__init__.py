"""The listening page: one HTML file for the stems of a track, which needs nothing beside it."""

from mgdm_audio.audio.report.pages import write_index, write_page, write_pages

__all__ = ["write_index", "write_page", "write_pages"]
