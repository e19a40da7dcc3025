"""How near estimates come to the true stems: metrics, tracks, folders, tables."""
