"""Checkpoints, opened as data."""

from blockwise_predict.checkpoint.finite import nonfinite_weights
from blockwise_predict.checkpoint.head import Head
from blockwise_predict.checkpoint.load import load_checkpoint
from blockwise_predict.checkpoint.trained import TrainedModel

__all__ = ["Head", "TrainedModel", "load_checkpoint", "nonfinite_weights"]
