"""A package's test tensors: what its network computed from them when it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blockwise_predict.checkpoint.packages.package import TestTensors
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.errors import CheckpointError

# Relative to the largest output value. Convolutions in float32 differ by some 1e-5 between
# machines; one layer or scale too many makes a difference of order 1.
TOLERANCE = 1e-4


def check_test_tensors(model: TrainedModel, tensors: TestTensors) -> float:
    """The largest difference between a network's output and its package's, relative to its values.

    Raises CheckpointError, with the difference, if it is more than rounding.
    """
    raw, expected = _load(tensors.input), _load(tensors.output)
    source = torch.from_numpy(raw * np.float32(tensors.scale) + np.float32(tensors.shift))
    try:
        with torch.inference_mode():
            output = model.build()(source).numpy()
    except RuntimeError as error:
        raise CheckpointError(
            f"{model.path}: the network does not take its package's test input: {error}."
        ) from None
    if output.shape != expected.shape:
        raise CheckpointError(
            f"{model.path}: the network makes {output.shape} of its package's test input, whose "
            f"test output has {expected.shape}."
        )
    difference = float(np.abs(output - expected).max() / (np.abs(expected).max() or 1))
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"{model.path}: the network does not reproduce its package's test tensors: its output "
            f"differs by up to {difference:.2g} of the largest value (allowed: {TOLERANCE:g}). The "
            "weights or the description were changed."
        )
    return difference


def _load(file: Path) -> NDArray[np.float32]:
    try:
        # Mapped first: a file that claims to have more values than it does takes no memory.
        return np.array(np.load(file, mmap_mode="r", allow_pickle=False), np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise CheckpointError(f"{file.name} cannot be read as .npy: {error}.") from None
