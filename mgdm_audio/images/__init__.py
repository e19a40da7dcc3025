"""Image restoration: files, forward operators, metrics and the restorer."""
