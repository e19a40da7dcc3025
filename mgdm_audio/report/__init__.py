"""The listening page: one HTML file for the stems of a track, which needs nothing beside it."""

from mgdm_audio.report.pages import ensure_page, write_index, write_page, write_pages

__all__ = ["ensure_page", "write_index", "write_page", "write_pages"]
