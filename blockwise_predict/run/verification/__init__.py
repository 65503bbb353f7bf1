"""Checking an output against its records, its chunks, and blocks that are computed again."""
