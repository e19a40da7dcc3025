"""This package's operators, likelihoods and priors as those of other libraries, and back."""
