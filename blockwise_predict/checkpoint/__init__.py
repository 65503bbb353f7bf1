"""Checkpoints, opened as data: nothing in them is executed."""

from blockwise_predict.checkpoint.finite import nonfinite_weights
from blockwise_predict.checkpoint.head import Head
from blockwise_predict.checkpoint.load import open_checkpoint
from blockwise_predict.checkpoint.module import as_module
from blockwise_predict.checkpoint.outputs import NetworkOutput, Selection
from blockwise_predict.checkpoint.probing import ProbedShapes
from blockwise_predict.checkpoint.programs import FACTORY, OpaqueModel
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel

__all__ = [
    "FACTORY",
    "Head",
    "NetworkOutput",
    "OpaqueModel",
    "ProbedShapes",
    "Selection",
    "TrainedModel",
    "UNetModel",
    "as_module",
    "nonfinite_weights",
    "open_checkpoint",
]
