"""The plain torch module of a checkpoint, for use without this package's engine."""

from __future__ import annotations

import copy
import os

from torch import nn

from blockwise_predict.checkpoint.load import open_checkpoint
from blockwise_predict.checkpoint.trained import TrainedModel


def as_module(model: str | os.PathLike[str] | TrainedModel) -> nn.Module:
    """The network as a torch module in eval mode, `[B, C, *in]` to `[B, K, *out]`.

    Input is float32 and normalised as in training; output is float32, with head and activation, as
    far as the files or `open_checkpoint(..., activation=...)` say what it is. The module is a copy
    on the CPU that belongs to the caller: its parameters require gradients, and changing or
    training it changes no other.

    model: a checkpoint's path, or the result of `open_checkpoint`, which has more options.

    Raises CheckpointError as `open_checkpoint` does.
    """
    opened = model if isinstance(model, TrainedModel) else open_checkpoint(model)
    return copy.deepcopy(opened.build()).requires_grad_(True)
