"""Priors on disk, in this package's folders and in the formats of others, ready to sample."""
