"""Public weights in other formats -> prior directories: a file a format, a file a model."""
