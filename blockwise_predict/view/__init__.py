"""Serving arrays, and predictions on demand, to neuroglancer and other programs."""
