"""The listening page: one self-contained HTML file for the stems of a track."""

from mgdm_audio.report.pages import ensure_page, write_index, write_page, write_pages

__all__ = ["ensure_page", "write_index", "write_page", "write_pages"]
