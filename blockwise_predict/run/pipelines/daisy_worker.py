"""A worker of a plan's task, in a process that daisy has started."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import daisy

from blockwise_predict.engine.compute_queue import ComputeQueue
from blockwise_predict.errors import RunFailedError
from blockwise_predict.run.pipelines.grid import TaskGrid
from blockwise_predict.run.pipelines.open_run import WorkerPass
from blockwise_predict.run.pipelines.worker import PipelineWorker
from blockwise_predict.worker.block import FatalError


def work(worker_pass: WorkerPass, grid: TaskGrid) -> None:
    """Process blocks until daisy has no more, as many side by side as the plan has slots.

    daisy retries a block that fails. Raises an error that would keep this process from doing any
    block.
    """
    # Read by daisy's clients, each of which would otherwise start a thread per core.
    os.environ["TOKIO_WORKER_THREADS"] = "1"
    number = int(daisy.Context.from_env()["worker_id"])
    worker = PipelineWorker(worker_pass, number)
    compute, stop = ComputeQueue(), threading.Event()
    slots = worker.plan.config.slots
    with ThreadPoolExecutor(slots, thread_name_prefix="slot") as pool:
        running = [
            pool.submit(_process_blocks, worker, grid, compute=compute, stop=stop)
            for _ in range(slots)
        ]
        compute.serve(lambda: not all(slot.done() for slot in running))
    for slot in running:
        slot.result()
    worker.close()


class _BlockFailedError(Exception):
    """A block failed, and may succeed when it is retried."""


def _process_blocks(
    worker: PipelineWorker, grid: TaskGrid, *, compute: ComputeQueue, stop: threading.Event
) -> None:
    """Process one block after the other, as one slot. A client of daisy holds one block."""
    client = daisy.Client()
    try:
        while not stop.is_set():
            # daisy reports what is raised inside `acquire_block`, and raises it again.
            with suppress(_BlockFailedError), client.acquire_block() as block:
                if block is None:
                    return
                number = worker.plan.block_number(grid.voxel(block.write_roi.begin))
                _process(worker, number, compute)
    except BaseException:
        stop.set()
        raise


def _process(worker: PipelineWorker, number: int, compute: ComputeQueue) -> None:
    try:
        worker.process(number, compute)
    except (FatalError, RunFailedError):
        raise
    except Exception as error:
        raise _BlockFailedError(str(error)) from error
