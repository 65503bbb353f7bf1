"""A worker process: one device, K slots that read and write blocks side by side.

The main thread computes; the slots' threads talk to the scheduler, read, and wait for writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import daisy.v2 as daisy
import torch
from funlib.geometry import Roi

from blockwise_predict.block import BlockProcessor
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.engine.turns import Turns
from blockwise_predict.processor import build_processor
from blockwise_predict.rundir import RunDir

TASK_ID = "predict"
HOST = "127.0.0.1"


class EventLog:
    """Append-only JSON lines, one whole line per write, safe from several threads."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(file, "a", buffering=1)  # noqa: SIM115  open as long as the process
        self._lock = threading.Lock()

    def write(self, kind: str, **fields: Any) -> None:
        """Append an event with the time."""
        with self._lock:
            self._file.write(json.dumps({"event": kind, "time": time.time(), **fields}) + "\n")


def run_worker(
    run_dir: RunDir, number: int, device: str, slots: int, threads: int | None, solo: int = 0
) -> int:
    """Work on a run until it has no more blocks or this process is told to stop (SIGTERM).

    The first `solo` blocks are done one at a time. Returns the number of blocks done. Raises what
    keeps the worker from starting.
    """
    events = EventLog(run_dir.event_file(number))
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    if threads:
        torch.set_num_threads(threads)
    plan = run_dir.plan()
    port = run_dir.port()
    processor = build_processor(plan, choose_device(device, number), run_dir)
    events.write("ready", pid=os.getpid(), slots=slots)
    print(f"worker {number}: {plan.network.checkpoint}, {slots} slots", flush=True)
    turns = Turns()
    workers = [Slot(processor, turns, events, stopping, port) for _ in range(slots)]
    workers[0].start()
    turns.serve(lambda: workers[0].holds_on() and workers[0].taken < solo)
    for slot in [] if stopping.is_set() else workers[1:]:
        slot.start()
    turns.serve(lambda: any(slot.holds_on() for slot in workers))
    done = sum(slot.done for slot in workers)
    events.write("end", blocks=done, stopped=stopping.is_set())
    print(f"worker {number}: {done} blocks done", flush=True)
    return done


class Slot(threading.Thread):
    """A thread with its own connection to the scheduler, one block at a time."""

    def __init__(
        self,
        processor: BlockProcessor,
        turns: Turns,
        events: EventLog,
        stopping: threading.Event,
        port: int,
    ) -> None:
        super().__init__(daemon=True)
        self.done = 0
        self.taken = 0
        self.idle = True
        self._processor = processor
        self._turns = turns
        self._events = events
        self._stopping = stopping
        self._port = port

    def holds_on(self) -> bool:
        """Whether there is reason to wait for this slot.

        One that waits for a block cannot be interrupted; when stopping, it holds nothing, and ends
        with the process.
        """
        return self.is_alive() and not (self._stopping.is_set() and self.idle)

    def run(self) -> None:
        """Acquire, process and release blocks until there are none, or until told to stop."""
        # daisy ties a connection to the thread that made it. An empty logdir: it writes no logs.
        client = daisy.Client(
            daisy.Context(hostname=HOST, port=self._port, task_id=TASK_ID, worker_id=-1, logdir="")
        )
        more = True
        while more and not self._stopping.is_set():
            # An exception inside `with` reports the block as failed and comes out again; the slot
            # goes on with the next block.
            with contextlib.suppress(BlockError):
                more = self._next(client)
            # Only now: leaving the `with` of a block is what reports it to the scheduler.
            self.idle = True
            self.taken += 1

    def _next(self, client: Any) -> bool:
        with client.acquire_block() as block:
            if block is None:
                return False
            self.idle = False
            self._process(block.write_roi)
        return True

    def _process(self, write_roi: Roi) -> None:
        block = self._processor.plan.block(write_roi.begin)
        try:
            report = self._processor.process(block, self._turns)
        except Exception as error:
            # Whatever a block raises fails that block alone; it is recorded and reported.
            self._events.write(
                "error",
                begin=list(block.begin),
                error=f"{type(error).__name__}: {error}",
                traceback=traceback.format_exc(),
            )
            traceback.print_exc(file=sys.stderr)
            raise BlockError(f"{type(error).__name__}: {error}") from error
        self.done += 1
        self._events.write("block", **asdict(report))


class BlockError(Exception):
    """A block failed; its cause has been recorded."""
