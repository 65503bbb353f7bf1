"""The states of a run's blocks: an image of one voxel per block, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.config.quantities import format_rate, format_seconds
from blockwise_predict.errors import PredictError
from blockwise_predict.io.kvstore import Json
from blockwise_predict.records.ledger import FINISHED, read_states
from blockwise_predict.records.lock import is_held
from blockwise_predict.report.status import read_moment, run_status
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


def status_of(run: Recorded) -> Json:
    """What the bar shows of a run; instead of records that cannot be read, what is wrong."""
    try:
        running = is_held(run.run_dir.path / "lock")
        moment = read_moment(run.run_dir, run.plan, running=running)
        found = run_status(run.run_dir, run.plan, moment)
    except PredictError as error:
        return {"facts": [["", str(error)]]}
    finished = found.done + found.empty + found.skipped
    facts = [[found.condition.value, f"{finished} of {found.blocks} blocks"]]
    if found.failed:
        facts.append(["failed", str(found.failed)])
    if found.voxels_per_second_now is not None:
        facts.append(["rate", format_rate(found.voxels_per_second_now)])
    if found.seconds_left is not None:
        facts.append(["left", format_seconds(found.seconds_left)])
    if found.workers:
        facts.append(["workers", str(len(found.workers))])
    progress = {"done": finished, "failed": found.failed, "total": found.blocks}
    return {"facts": facts, "progress": progress}


def is_finished(run: Recorded) -> bool:
    """Whether no block is left to do, and none has failed."""
    return bool(np.isin(current_states(run), FINISHED).all())
