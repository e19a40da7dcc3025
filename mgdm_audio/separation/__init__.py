"""Stems of a mixture of any rate, channels and length."""
