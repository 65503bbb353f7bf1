"""What blockwise results are held to: one forward pass over the whole volume."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.precision import DEEP_DTYPES


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
        low, high = shapes.lost[axis]
        cell, u = shapes.period[axis] * shapes.scale[axis], shapes.scale[axis]
        point = (roi.begin[axis] - low % u) // cell * cell + low % u
        begin.append((point - low) // u)
        size.append(-(-(roi.end[axis] - begin[-1] * u + high) // u))
    shape = shapes.valid_input_shape(tuple(size), "up")
    raw = read_padded(volume, Roi(begin, shape), "reflect").astype(np.float32)
    with torch.inference_mode():
        output = model(torch.from_numpy(np.ascontiguousarray(raw))[None])[0].float().numpy()
    first = Coordinate(b * shapes.scale[a] + shapes.lost[a][0] for a, b in enumerate(begin))
    return output[(slice(None), *(roi - first).to_slices())]


class Cast(torch.nn.Module):
    """A layer that takes and gives given dtypes."""

    def __init__(
        self, layer: torch.nn.Module, takes: torch.dtype | None, gives: torch.dtype | None
    ) -> None:
        super().__init__()
        self.layer, self.takes, self.gives = layer, takes, gives

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        if self.takes is not None:
            given = tuple(each.to(self.takes) for each in given)
        result = self.layer(*given)
        return result if self.gives is None else result.to(self.gives)


class Rounded(torch.nn.Module):
    """A convolution whose weights and results are of a dtype, its products of float32.

    So oneDNN and cuDNN compute, too; but oneDNN's own kernels for bfloat16 let NaN touch voxels
    outside the convolution's reach.
    """

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.float()).to(x.dtype)


def in_precision(model: torch.nn.Module, precision: str) -> torch.nn.Module:
    """A copy of a model, to be called with float32, that computes in a precision as ours does."""
    model = copy.deepcopy(model)
    if precision == "float32":
        return model
    net = model.architecture.unet
    unet = net[0] if isinstance(net, torch.nn.Sequential) else net
    deepest = range(1, unet.num_levels)
    dtype = DEEP_DTYPES[precision]
    if precision == "mixed":
        for number in deepest:
            _lower(unet.l_conv[number], dtype)
        for up, conv in zip(unet.r_up, unet.r_conv, strict=True):
            for number in range(1, len(up)):
                _lower(up[number], dtype), _lower(conv[number], dtype)
            up[0].up = Cast(up[0].up, torch.float32, None)
        unet.l_down[0] = Cast(unet.l_down[0], None, dtype)
        return model
    layers = unet.l_conv[0].conv_pass
    # The first convolution is of float32, up to its activation.
    activations = (torch.nn.ReLU, torch.nn.ELU)
    number = next(n for n, layer in enumerate(layers) if isinstance(layer, activations)) + 1
    first = Cast(copy.deepcopy(layers[:number]), torch.float32, dtype)
    _lower(model, dtype)
    unet.l_conv[0].conv_pass = torch.nn.Sequential(first, *layers[number:])
    model.prediction_head = Cast(model.prediction_head, None, torch.float32)
    return model


def _lower(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Let a module, in place, compute in a dtype of 16 bits."""
    module.to(dtype)
    for parent in list(module.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, torch.nn.modules.conv._ConvNd):
                setattr(parent, key, Rounded(child))
