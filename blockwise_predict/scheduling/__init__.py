"""Handing out blocks: which is next, to whom, and how often."""
