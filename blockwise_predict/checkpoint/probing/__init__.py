"""Finding out what a network of unknown layers does with its input, by running it."""

from blockwise_predict.checkpoint.probing.probe import probe_network
from blockwise_predict.checkpoint.probing.shapes import ProbedShapes

__all__ = ["ProbedShapes", "probe_network"]
