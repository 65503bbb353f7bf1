"""Passes over the tiles of a volume, which may have more axes than the network."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from blockwise_predict.architectures import NetworkShapes, UNetShapes
from blockwise_predict.engine.passes import OutputPlanes, Pass, StreamedPass, WholePass
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.values import Normalization


class SlicePass:
    """A network applied to the slices or frames of a volume with more axes, one after another.

    `slices` is the number of axes, the volume's first ones, that it is applied along.
    """

    def __init__(self, slice_pass: Pass, slices: int) -> None:
        first, *others = (axis + slices for axis in slice_pass.axes)
        self.axes = (first, *range(slices), *others)
        self._slice_pass = slice_pass
        self._slices = slices

    def run(self, raw: NDArray[np.generic]) -> Generator[OutputPlanes]:
        """See `Pass`."""
        for place in np.ndindex(raw.shape[1 : 1 + self._slices]):
            for begin, values, _ in self._slice_pass.run(raw[(slice(None), *place)]):
                planes = values.reshape(len(values), *[1] * self._slices, *values.shape[1:])
                yield OutputPlanes(begin, planes, place)

    def activate(self, values: torch.Tensor) -> torch.Tensor:
        """See `Pass`."""
        return self._slice_pass.activate(values)


def make_pass(
    model: nn.Module,
    shapes: NetworkShapes,
    *,
    volume_dims: int,
    streaming: Streaming | None,
    precision: str,
    normalization: Normalization,
    device: torch.device,
) -> Pass:
    """The pass of a trained network, head and activation included, over a volume's tiles.

    Without `streaming` a tile is one forward pass. Where `volume_dims` is larger than the network's
    number of axes, the network is applied to each slice, or frame.
    """
    network_pass = make_network_pass(
        model,
        shapes,
        streaming=streaming,
        precision=precision,
        normalization=normalization,
        device=device,
    )
    return over_volume(network_pass, volume_dims)


def make_network_pass(
    model: nn.Module,
    shapes: NetworkShapes,
    *,
    streaming: Streaming | None,
    precision: str,
    normalization: Normalization,
    device: torch.device,
) -> Pass:
    """The pass of a trained network over tiles with the network's own axes; see `make_pass`."""
    if streaming is None:
        return WholePass(
            model, shapes.dims, precision=precision, normalization=normalization, device=device
        )
    assert isinstance(shapes, UNetShapes)
    return StreamedPass(
        model,
        shapes,
        streaming,
        precision=precision,
        normalization=normalization,
        device=device,
    )


def over_volume(network: Pass, volume_dims: int) -> Pass:
    """A network's pass, or that over each slice if the volume has more axes."""
    slices = volume_dims - len(network.axes)
    return SlicePass(network, slices) if slices else network


def predict_tile(network: Pass, raw: NDArray[np.generic]) -> NDArray[np.float32]:
    """Predict a whole tile: `[C, *input]` as stored to `[*output, K]`, axes in volume order."""
    found: dict[tuple[int, ...], list[NDArray[np.float32]]] = {}
    for _, values, place in network.run(raw):
        found.setdefault(place, []).append(network.activate(values).cpu().numpy())
    slices = [np.concatenate(chunks) for chunks in found.values()]
    # Slices come in C order. Their axes have the length 1, and follow that of the planes.
    counts = [index + 1 for index in max(found)]
    planes, *plane = slices[0].shape
    whole = np.stack(slices).reshape(*counts, planes, *plane[len(counts) :])
    whole = np.moveaxis(whole, len(counts), 0)
    return whole.transpose(*np.argsort(network.axes), len(network.axes))
