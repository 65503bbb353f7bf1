"""A worker of a plan's task, in a process that daisy has started."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

import daisy
from funlib.geometry import Coordinate

from blockwise_predict.engine.compute_queue import ComputeQueue
from blockwise_predict.errors import RunFailedError
from blockwise_predict.run.external import ExternalWorker, WorkerPass
from blockwise_predict.worker.block import FatalError


class Grid(Protocol):
    """Where daisy's blocks lie on the output's grid."""

    def voxel(self, begin: Sequence[int]) -> Coordinate:
        """The output voxel that begins at a position of daisy's."""


def work(worker_pass: WorkerPass, grid: Grid) -> None:
    """Do blocks until daisy has no more, as many side by side as the plan has slots.

    A block that fails is daisy's to try again. Raises what keeps this process from doing any block.
    """
    # Read by daisy's clients, each of which would have as many threads as there are cores.
    os.environ["TOKIO_WORKER_THREADS"] = "1"
    number = int(daisy.Context.from_env()["worker_id"])
    worker = ExternalWorker(worker_pass, number)
    compute, stop = ComputeQueue(), threading.Event()
    slots = worker.plan.config.slots
    with ThreadPoolExecutor(slots, thread_name_prefix="slot") as pool:
        running = [pool.submit(_slot, worker, grid, compute, stop) for _ in range(slots)]
        compute.serve(lambda: not all(slot.done() for slot in running))
    for slot in running:
        slot.result()
    worker.close()


class _BlockFailedError(Exception):
    """A block that went wrong, and could go well when it is tried again."""


def _slot(worker: ExternalWorker, grid: Grid, compute: ComputeQueue, stop: threading.Event) -> None:
    """Do one block after the other. A client of daisy's has one block at a time."""
    client = daisy.Client()
    try:
        while not stop.is_set():
            # daisy is told of what is raised within `acquire_block`, and raises it again.
            with suppress(_BlockFailedError), client.acquire_block() as block:
                if block is None:
                    return
                number = worker.plan.block_number(grid.voxel(block.write_roi.begin))
                _process(worker, number, compute)
    except BaseException:
        stop.set()
        raise


def _process(worker: ExternalWorker, number: int, compute: ComputeQueue) -> None:
    try:
        worker.process(number, compute)
    except (FatalError, RunFailedError):
        raise
    except Exception as error:
        raise _BlockFailedError(str(error)) from error
