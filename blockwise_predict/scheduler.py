"""Hands out the blocks of a plan, and watches over the workers until all are done.

One daisy server with one task and no process function, in a thread of this process; workers are
started by a fleet and join by themselves. daisy knows blocks by their place in the output grid, in
output voxels; everything else about a block is in the plan.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import daisy.v2 as daisy
import psutil
from daisy.logging import set_log_basedir
from funlib.geometry import Coordinate, Roi

from blockwise_predict.errors import RunFailedError
from blockwise_predict.plan import Plan
from blockwise_predict.rundir import RunDir
from blockwise_predict.worker import HOST, TASK_ID

POLL_S = 0.1
SERVER_START_S = 30.0


class Fleet(Protocol):
    """What the scheduler asks of a fleet."""

    @property
    def alive(self) -> int:
        """Number of workers that are running."""

    def start(self) -> None:
        """Start all workers."""

    def check(self, finished_blocks: int) -> None:
        """Replace dead workers; RunFailedError when that is of no use."""

    def drain(self) -> None:
        """Tell the workers to finish their blocks and end."""

    def kill(self) -> None:
        """End the workers at once."""

    def finish(self) -> None:
        """Wait for workers that have no more work."""


@dataclass(frozen=True)
class Counts:
    """Blocks of a run: all, done (in this run or before), failed for good, in work."""

    total: int
    done: int
    failed: int
    processing: int


@dataclass(frozen=True)
class Outcome:
    """How a run ended; `failed` are the blocks that used up their attempts."""

    counts: Counts
    failed: tuple[Roi, ...]
    interrupted: bool


class StopRequest:
    """Set from a signal handler: once to drain, twice to stop at once."""

    def __init__(self) -> None:
        self.times = 0

    def request(self) -> None:
        """Ask once more."""
        self.times += 1


def run_blocks(
    plan: Plan,
    run_dir: RunDir,
    fleet: Fleet,
    on_progress: Callable[[Counts], None],
    stop: StopRequest,
) -> Outcome:
    """Run all blocks that are not recorded as done; returns when they are, or on `stop`.

    Raises RunFailedError when no worker can work. The server cannot be ended from outside: after
    an interruption or an error its thread stays, idle, until the process ends.
    """
    with _stderr_into(run_dir.logs / "scheduler.log"):
        server = _Server(plan, run_dir.tracking)
        try:
            with _signals_kept():
                port = server.start()
            run_dir.write_port(port)
            fleet.start()
            while not server.wait(POLL_S):
                counts = server.counts
                on_progress(counts)
                if stop.times:
                    _drain(fleet, stop, server, on_progress)
                    return Outcome(server.counts, (), interrupted=True)
                fleet.check(counts.done + counts.failed)
            on_progress(server.counts)
            fleet.finish()
        except BaseException:
            fleet.kill()
            raise
        return Outcome(server.counts, server.failed_blocks(), interrupted=False)


@contextmanager
def _stderr_into(file: Path) -> Iterator[None]:
    """Send this process's stderr to a file.

    daisy's server (Rust) writes every failed block's traceback straight to the file descriptor,
    through whatever the terminal shows. It belongs into the run's log.
    """
    sys.stderr.flush()
    real = os.dup(2)
    log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 2)
    os.close(log)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(real, 2)
        os.close(real)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep our signal handlers while daisy's server starts.

    It takes SIGINT for itself, and would throw away the work in flight. Signals that come
    meanwhile wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)


def _drain(
    fleet: Fleet, stop: StopRequest, server: _Server, on_progress: Callable[[Counts], None]
) -> None:
    fleet.drain()
    while fleet.alive and stop.times < 2:
        time.sleep(POLL_S)
        on_progress(server.counts)
    fleet.kill()
    # The last releases may still be on their way through the server.
    server.wait(2 * POLL_S)


class _Server:
    """A daisy server in a thread; also the observer that daisy tells of progress."""

    def __init__(self, plan: Plan, tracking: Path) -> None:
        # daisy would otherwise keep logs, and look for markers, in the current directory.
        set_log_basedir(None)
        self._plan = plan
        self._task = _task(plan, tracking)
        self.counts = Counts(plan.num_blocks, 0, 0, 0)
        self._listening = threading.Event()
        self._port = 0
        self._ports_before: set[int] = set()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True, name="daisy")

    def start(self) -> int:
        """Start serving; returns the port."""
        self._ports_before = _listening_ports()
        self._thread.start()
        deadline = time.monotonic() + SERVER_START_S
        while not self._listening.wait(POLL_S):
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RunFailedError(f"the scheduler's server did not start: {self._error}")
        return self._port

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the run; False if it is not there yet."""
        self._thread.join(seconds)
        if self._error is not None:
            raise RunFailedError(f"the scheduler's server stopped: {self._error}")
        return not self._thread.is_alive()

    def failed_blocks(self) -> tuple[Roi, ...]:
        """Blocks that used up their attempts."""
        rois = (block.write_roi for block in self._task.failed_blocks())
        return tuple(self._plan.block(roi.begin) for roi in rois)

    def _serve(self) -> None:
        try:
            pipeline = daisy.Pipeline.from_task(self._task)
            states = daisy.Server().run_blockwise(pipeline, progress=self, host=HOST, summary=False)
            self._count(states)
        except BaseException as error:  # noqa: BLE001  a Rust panic is a BaseException
            self._error = error

    def on_start(self, states: Any) -> None:
        """Called by daisy once it listens. It chooses the port, and tells it to nobody."""
        self._port = (_listening_ports() - self._ports_before).pop()
        self._count(states)
        self._listening.set()

    def on_progress(self, states: Any) -> None:
        """Called by daisy now and then; must be quick, since it holds the server up."""
        self._count(states)

    def on_finish(self, states: Any) -> None:
        """Called by daisy at the end."""
        self._count(states)

    def _count(self, states: Any) -> None:
        state = states[TASK_ID]
        self.counts = Counts(
            total=state.total_block_count,
            done=state.completed_count,
            failed=state.failed_count,
            processing=state.processing_count,
        )


def _listening_ports() -> set[int]:
    return {
        connection.laddr.port
        for connection in psutil.Process().net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip == HOST
    }


def _task(plan: Plan, tracking: Path) -> Any:
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
        max_worker_restarts=1,
        max_retries=plan.config.retries,
        timeout=plan.config.block_timeout,
        tracking_path=str(tracking),
    )
