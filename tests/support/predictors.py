"""Predictors over given tiles, and the blocks that they give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from funlib.geometry import Roi

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.predictor import Predictor
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.values import Encoding, Normalization, Part
from blockwise_predict.engine.volume_passes import make_pass
from blockwise_predict.geometry.tiling import (
    build_lattice,
)
from tests.support.reference import Held

CPU = torch.device("cpu")


AS_IT_IS = Normalization(1.0)


def predictor(
    trained: TrainedModel,
    tile: Sequence[int],
    streaming: Streaming | None,
    precision: str = "float32",
) -> Predictor:
    """Float32 in and out, over tiles of this shape."""
    network = make_pass(
        trained.build(),
        trained.shapes,
        volume_dims=len(tile),
        streaming=streaming,
        precision=precision,
        normalization=AS_IT_IS,
        device=CPU,
    )
    lattice = build_lattice(trained.shapes, tile)
    return Predictor(
        network,
        lattice,
        parts=[Part(len(trained.channel_names), Encoding("float32"))],
        row_shape=(7,) * len(tile),
    )


def predicted_block(predictor: Predictor, volume: Held, block: Roi) -> np.ndarray:
    """A block put together from its rows."""
    lattice = predictor.lattice
    read = lattice.read_roi(block)
    rows = list(predictor.predict(read_padded(volume, read, "reflect"), read, block, lattice))
    data = np.full((rows[0].parts[0].data.shape[0], *block.shape), np.nan, np.float32)
    for row in rows:
        place = (slice(None), *(row.roi - block.begin).to_slices())
        assert np.isnan(data[place]).all(), "a voxel is predicted twice"
        data[place] = row.parts[0].data
    return data
