"""Checkpoints, opened as data: nothing in them is executed."""

from blockwise_predict.checkpoint.finite import nonfinite_weights
from blockwise_predict.checkpoint.head import Head
from blockwise_predict.checkpoint.load import open_checkpoint
from blockwise_predict.checkpoint.probing import ProbedShapes
from blockwise_predict.checkpoint.programs import FACTORY, OpaqueModel
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel

__all__ = [
    "FACTORY",
    "Head",
    "OpaqueModel",
    "ProbedShapes",
    "TrainedModel",
    "UNetModel",
    "nonfinite_weights",
    "open_checkpoint",
]
