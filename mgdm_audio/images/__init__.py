"""Pictures: files, what is observed of them, priors, and their restoration."""
