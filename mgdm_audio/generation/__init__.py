"""Draws music from a prior: all stems, or the missing ones given the others."""
