"""What blockwise results are held to: one forward pass over the whole volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi

from blockwise_predict.engine.border import read_padded
from blockwise_predict.tiling import lost_voxels


class Held:
    """A volume in memory."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.shape = data.shape[1:]

    def read(self, begin: tuple[int, ...], end: tuple[int, ...]) -> np.ndarray:
        return self.data[(slice(None), *map(slice, begin, end))]


def one_pass(model: torch.nn.Module, shapes: Any, volume: Held, roi: Roi) -> np.ndarray:
    """One forward pass that covers a ROI, its output beginning at a multiple of the period."""
    begin, size = [], []
    for axis in range(shapes.dims):
        low, high = lost_voxels(shapes, axis)
        cell, u = shapes.period[axis] * shapes.scale[axis], shapes.scale[axis]
        point = (roi.begin[axis] - low % u) // cell * cell + low % u
        begin.append((point - low) // u)
        size.append(-(-(roi.end[axis] - begin[-1] * u + high) // u))
    shape = shapes.valid_input_shape(tuple(size), "up")
    raw = read_padded(volume, Roi(begin, shape), "reflect").astype(np.float32)
    with torch.inference_mode():
        output = model(torch.from_numpy(np.ascontiguousarray(raw))[None])[0].numpy()
    first = Coordinate(b * shapes.scale[a] + lost_voxels(shapes, a)[0] for a, b in enumerate(begin))
    return output[(slice(None), *(roi - first).to_slices())]
