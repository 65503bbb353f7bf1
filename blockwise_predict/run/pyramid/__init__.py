"""Downsampled levels of outputs: which there are, how they are computed, made and verified."""
