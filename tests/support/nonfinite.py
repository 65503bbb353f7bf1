"""NaN, infinity and huge values: put into arrays, and found in them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from blockwise_predict.checkpoint import TrainedModel, open_checkpoint
from tests.support.networks import NETWORKS, save_network


def network(folder: Path, name: str) -> TrainedModel:
    weights, architecture = save_network(folder, **NETWORKS[name])
    return open_checkpoint(weights, architecture=architecture)


def tile(trained: TrainedModel, periods: tuple[int, ...] = (1, 2, 1)) -> np.ndarray:
    """Random raw values, `[1, *input]`."""
    shapes = trained.shapes
    sizes = zip(shapes.min_input_shape, shapes.period, periods, strict=False)
    shape = [size + period * count for size, period, count in sizes]
    return np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)


def spoil(array: np.ndarray | torch.Tensor, spoils: list[tuple[float, float]]) -> None:
    flat = array.reshape(-1)
    for where, value in spoils:
        flat[int(where * (len(flat) - 1))] = value


def references(model: nn.Module, raw: np.ndarray) -> list[np.ndarray]:
    """`[*output, K]` of torch's forward pass, by oneDNN and by torch's own convolutions."""
    results = []
    for onednn in (True, False):
        torch.backends.mkldnn.set_flags(onednn)
        with torch.inference_mode():
            results.append(model(torch.from_numpy(raw)[None])[0].movedim(0, -1).float().numpy())
    torch.backends.mkldnn.set_flags(True)
    return results


def in_float64(
    model: nn.Module, raw: np.ndarray, round_to: torch.dtype | None = None
) -> np.ndarray:
    """`[*output, K]` of torch's forward pass in float64, perhaps with each weight moved at random
    by as much as a dtype's rounding."""
    model = copy.deepcopy(model).double()
    if round_to is not None:
        chance = torch.Generator().manual_seed(0)
        for value in model.state_dict().values():
            if value.is_floating_point():
                moved = torch.rand(value.shape, generator=chance, dtype=value.dtype) - 0.5
                value.mul_(1 + torch.finfo(round_to).eps * moved)
    with torch.inference_mode():
        output = model(torch.from_numpy(raw).double()[None])
    return output[0].movedim(0, -1).numpy()


def pattern(values: np.ndarray) -> np.ndarray:
    """0 where values are finite, and a number of its own for NaN and each infinity."""
    return np.where(np.isnan(values), 3, np.where(np.isinf(values), np.sign(values), 0))
