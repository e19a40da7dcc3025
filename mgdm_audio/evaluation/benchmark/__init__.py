"""Samplers compared on sets of tracks: dB against cost."""
