"""Data sets -> folders of stems with a manifest: what is summed to what, and a record of it."""
