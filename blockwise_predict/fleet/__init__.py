"""Fleets: they start, watch, replace and finally end the worker processes of a run."""

from blockwise_predict.fleet.local import LocalFleet

__all__ = ["LocalFleet"]
