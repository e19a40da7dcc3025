"""Pictures: what is observed of them."""
