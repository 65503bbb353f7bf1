"""The states of a run's blocks: an image of one voxel per block, and the counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.io.kvstore import Json
from blockwise_predict.records.ledger import FINISHED, State, read_states
from blockwise_predict.view.served import ServedImage, ServedLevel, Voxels
from blockwise_predict.view.subject import Recorded

_CHUNK = 64


def current_states(run: Recorded) -> NDArray[np.uint8]:
    """The state of each block now, in the shape of their grid. Raises as `read_states`."""
    plan, records = run.plan, run.run_dir
    grid = plan.blocks_per_axis
    return read_states(records.ledger_file(plan), grid, trusted=records.trusted).reshape(grid)


def states_image(run: Recorded) -> ServedImage:
    """The states as an image, each time as they are when it is read."""
    plan = run.plan
    grid = plan.output_grid

    async def read(begin: Sequence[int], end: Sequence[int]) -> Voxels:
        states = await asyncio.to_thread(current_states, run)
        return states[None, *map(slice, begin, end)]

    level = ServedLevel(
        shape=plan.blocks_per_axis,
        chunk_shape=tuple(min(size, _CHUNK) for size in plan.blocks_per_axis),
        voxel_size=tuple(s * b for s, b in zip(grid.voxel_size, plan.block_shape, strict=True)),
        read=read,
    )
    return ServedImage(
        name="blocks",
        levels=(level,),
        offset=grid.world(plan.output.roi_begin),
        channels=None,
        dtype=np.dtype(np.uint8),
        axis_names=plan.input.axis_names,
        time_unit=grid.time_unit,
    )


def progress(run: Recorded) -> Json:
    """Numbers of blocks that need not be done any more, that failed, and of all."""
    states = current_states(run)
    return {
        "done": int(np.isin(states, FINISHED).sum()),
        "failed": int((states == State.FAILED).sum()),
        "total": states.size,
    }
