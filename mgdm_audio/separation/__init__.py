"""Stems of a mixture of any rate, channels and length, and music out of a prior alone."""
