"""The blocks of a plan, as daisy's scheduler hands them out.

daisy identifies blocks by their position in the output, in output voxels. Here they are numbered
in C order, as in the ledger.
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


class DaisyBlockSource:
    """Blocks of a plan that have not been handed out yet, except those in `skip_mask`.

    `skip_mask` is u1, one value per block in C order. To be closed in the thread that made it.
    """

    def __init__(self, plan: Plan, skip_mask: NDArray[np.uint8]) -> None:
        # daisy would otherwise keep logs, and look for markers, in the current directory.
        set_log_basedir(None)
        self._plan = plan
        self._scheduler = daisy.Scheduler(_task(plan, skip_mask.reshape(plan.blocks_per_axis)))
        self._held: dict[int, Any] = {}
        # Finding the first block can take seconds when millions are done, so it is done here, and
        # not while workers wait.
        self._upcoming = self._acquire()

    @property
    def empty(self) -> bool:
        """Whether all have been handed out."""
        return self._upcoming is None

    def next(self) -> int | None:
        """The next block; None when all have been handed out."""
        block = self._upcoming
        if block is not None:
            self._upcoming = self._acquire()
        return block

    def finish(self, block: int) -> None:
        """Release a block that is done or given up."""
        held = self._held.pop(block)
        held.status = daisy.BlockStatus.SUCCESS
        self._scheduler.release_block(held)

    def close(self) -> None:
        """Release daisy's scheduler."""
        self._held.clear()
        del self._scheduler

    def _acquire(self) -> int | None:
        block = self._scheduler.acquire_block(TASK_ID)
        if block is None:
            return None
        number = self._plan.block_number(block.write_roi.begin)
        self._held[number] = block
        return number


def _task(plan: Plan, skip_mask: NDArray[np.uint8]) -> Any:
    low = Coordinate(axis.low for axis in plan.lattice.axes)
    high = Coordinate(axis.high for axis in plan.lattice.axes)
    block = Roi((0,) * len(plan.block_shape), plan.block_shape)
    return daisy.Task(
        TASK_ID,
        total_roi=plan.output.roi.grow(low, high),
        read_roi=block.grow(low, high),
        write_roi=block,
        process_function=None,
        read_write_conflict=False,
        # "valid" would silently drop the remainder at the end that is smaller than a block.
        fit="overhang",
        max_workers=1,
        max_retries=0,
        # Progress is tracked in the ledger, which is tied to the run's identity.
        tracking_path=False,
        skip_mask=skip_mask,
    )
