"""Evaluation of estimates against the true stems: metrics, folders of tracks, tables."""
