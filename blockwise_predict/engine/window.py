"""The smooth window by which overlapping tiles are weighted."""

from __future__ import annotations

import torch

from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.overlap import OverlappingAxis

# Standard deviation of the Gaussian, relative to the tile, as in nnU-Net and MONAI.
SIGMA = 1 / 8
# Smallest weight, relative to the centre's, as in MONAI; nnU-Net has none. It matters near the
# border of a volume that tiles do not reach beyond, where all weights are small.
SMALLEST_WEIGHT = 1e-3


def blending_window(lattice: Lattice) -> torch.Tensor:
    """Weights of a tile's output voxels, float32: a Gaussian along each axis with overlap.

    The same as MONAI's `compute_importance_map(mode="gaussian")`.
    """
    window = torch.ones(())
    for axis in lattice.axes:
        if isinstance(axis, OverlappingAxis):
            along = _gaussian(axis.kept)
        else:
            along = torch.ones(axis.input_size)
        window = window[..., None] * along
    return window.clamp(min=SMALLEST_WEIGHT)


def _gaussian(size: int) -> torch.Tensor:
    distance = torch.arange(size) - (size - 1) / 2
    return torch.exp(-(distance**2) / (2 * (size * SIGMA) ** 2))
