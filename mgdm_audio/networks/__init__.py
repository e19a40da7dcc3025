"""Architectures: networks that denoise, in torch only."""
