"""The architectures of denoising networks, which depend on torch alone."""
