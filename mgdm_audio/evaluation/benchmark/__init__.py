"""Compares samplers on sets of tracks by quality in dB and cost."""
