"""The blocks of a plan, as daisy's scheduler hands them out.

daisy knows blocks by their place in the output grid, in output voxels. Here they are numbers, in C
order, as in the ledger.
"""

from __future__ import annotations

from typing import Any

import daisy.v2 as daisy
import numpy as np
from daisy.logging import set_log_basedir
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.plan.model import Plan

TASK_ID = "predict"


class FreshBlocks:
    """Blocks that have not been handed out yet; those where `skip` (u1, per block) is set never."""

    def __init__(self, plan: Plan, skip: NDArray[np.uint8]) -> None:
        # daisy would otherwise keep logs, and look for markers, in the current directory.
        set_log_basedir(None)
        self._plan = plan
        self._scheduler = daisy.Scheduler(_task(plan, skip.reshape(plan.blocks_per_axis)))
        self._held: dict[int, Any] = {}
        # Finding the first one can take seconds where millions are done: now, not while workers
        # wait.
        self._ahead = self._take()

    @property
    def empty(self) -> bool:
        """Whether all have been handed out."""
        return self._ahead is None

    def next(self) -> int | None:
        """The next block; None when all have been handed out."""
        block = self._ahead
        if block is not None:
            self._ahead = self._take()
        return block

    def finish(self, block: int) -> None:
        """A block is done or given up."""
        held = self._held.pop(block)
        held.status = daisy.BlockStatus.SUCCESS
        self._scheduler.release_block(held)

    def close(self) -> None:
        """Let daisy's scheduler go, which must end in the thread that made it."""
        self._held.clear()
        del self._scheduler

    def _take(self) -> int | None:
        block = self._scheduler.acquire_block(TASK_ID)
        if block is None:
            return None
        number = self._plan.block_number(block.write_roi.begin)
        self._held[number] = block
        return number


def _task(plan: Plan, skip: NDArray[np.uint8]) -> Any:
    lost = Coordinate(axis.low for axis in plan.lattice.axes)
    high = Coordinate(axis.high for axis in plan.lattice.axes)
    block = Roi((0,) * len(plan.block_shape), plan.block_shape)
    return daisy.Task(
        TASK_ID,
        total_roi=plan.output.roi.grow(lost, high),
        read_roi=block.grow(lost, high),
        write_roi=block,
        process_function=None,
        read_write_conflict=False,
        # "valid" would silently leave out what a whole block does not fit into.
        fit="overhang",
        max_workers=1,
        max_retries=0,
        # Ours is the ledger, which is bound to the run's identity.
        tracking_path=False,
        skip_mask=skip,
    )
