"""What networks are probed with."""

from __future__ import annotations

import torch

from blockwise_predict.architectures.interface import Shape

# Edge of the cells that differ in brightness and contrast.
_CELL = 8


def random_content(channels: int, shape: Shape, seed: int) -> torch.Tensor:
    """Noise, `[channels, *shape]`, mostly within 0 to 1, of uneven brightness and contrast.

    So statistics over a tile, such as a normalisation takes, differ from tile to tile.
    """
    generator = torch.Generator().manual_seed(seed)
    cells = tuple(-(-size // _CELL) for size in shape)
    contrast, brightness = (
        _enlarged(torch.rand(1, *cells, generator=generator, dtype=torch.float64), shape)
        for _ in range(2)
    )
    noise = torch.rand(channels, *shape, generator=generator, dtype=torch.float64)
    return brightness / 2 + contrast * (noise - 0.25)


def _enlarged(cells: torch.Tensor, shape: Shape) -> torch.Tensor:
    for axis, size in enumerate(shape, 1):
        cells = cells.repeat_interleave(_CELL, axis).narrow(axis, 0, size)
    return cells
