"""Training of priors: data, augmentation, the loop, its state, and the run that joins them."""
