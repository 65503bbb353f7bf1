"""A pass over a flipped or transposed copy of the tile, its output placed back."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from blockwise_predict.architectures import NetworkShapes
from blockwise_predict.engine.passes import OutputPlanes, Pass
from blockwise_predict.geometry.symmetry import Symmetry


class TransformedPass:
    """Runs a pass over a transformed tile, and hands out planes along the tile's own axes.

    Along a flipped axis, the output begins as many voxels inside the tile as the pass would lose at
    its end. If that is the streamed axis, the last planes come first.
    """

    def __init__(self, network: Pass, symmetry: Symmetry, shapes: NetworkShapes) -> None:
        self.axes = symmetry.original_axes(network.axes)
        self._network = network
        self._symmetry = symmetry
        self._shapes = shapes
        flipped = symmetry.flipped
        self._flipped_dims = [place for place, axis in enumerate(self.axes) if flipped[axis]]

    def run(self, raw: NDArray[np.generic]) -> Generator[OutputPlanes]:
        """See `Pass`."""
        transformed = self._symmetry.apply(raw)
        total = self._shapes.output_shape(transformed.shape[1:])[self._network.axes[0]]
        for begin, values, _ in self._network.run(transformed):
            if self._symmetry.flipped[self.axes[0]]:
                begin = total - begin - len(values)
            yield OutputPlanes(begin, values.flip(self._flipped_dims))

    def activate(self, values: torch.Tensor) -> torch.Tensor:
        """See `Pass`."""
        return self._network.activate(values)
