"""The folder that a separated track is written to."""
