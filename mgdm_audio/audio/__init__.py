"""Sound files, their samples and sample rates."""
