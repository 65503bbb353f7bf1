"""Runs a plan's blocks to the end: serves the workers, and watches over their fleet."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import Empty
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.plan import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.ledger import Ledger
from blockwise_predict.records.rundir import Address
from blockwise_predict.scheduling.attempts import Trouble
from blockwise_predict.scheduling.blocks import FreshBlocks
from blockwise_predict.scheduling.dispatcher import Dispatcher, Notes
from blockwise_predict.scheduling.members import Counts
from blockwise_predict.scheduling.server import Server

POLL_S = 0.1
# After the run must stop, workers have so long to finish what they hold.
STOP_GRACE_S = 30.0
# The ledger is brought to the disk so often.
SYNC_S = 30.0


class Fleet(Protocol):
    """What the scheduler asks of a fleet."""

    @property
    def size(self) -> int:
        """Number of workers it keeps."""

    @property
    def alive(self) -> int:
        """Number of workers that are running."""

    def start(self) -> None:
        """Start all workers."""

    def check(self, joined: set[int]) -> None:
        """Replace dead workers; RunFailedError when that is of no use.

        `joined` are the numbers of workers that have joined; those of replaced ones are removed.
        """

    def end_worker(self, number: int) -> None:
        """End a worker that is lost, at once."""

    def drain(self, joined: set[int]) -> None:
        """No more workers are wanted: end those that have not joined yet."""

    def kill(self) -> None:
        """End the workers at once."""

    def finish(self) -> None:
        """Wait for workers that have no more work."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its counts, how busy its workers' devices were."""

    counts: Counts
    busy: dict[int, float]
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
    ledger: Ledger,
    leave: NDArray[np.uint8],
    fleet: Fleet,
    tell: Callable[[Counts], None],
    warn: Callable[[str], None],
    stop: StopRequest,
    check: Callable[[], None],
) -> Outcome:
    """Run all blocks but those to `leave` (u1, per block); returns when they are, or on `stop`.

    `tell` gets the counts now and then, `warn` what the user should see; `check` raises when the
    run has lost its lock. Raises RunFailedError when the run stops early, after the workers have
    finished what they hold.
    """
    make_dispatcher = partial(_dispatcher, plan, run_dir, ledger, leave, warn)
    server = Server(make_dispatcher, run_dir.run_id(), fleet.size)
    port = server.start()
    try:
        run_dir.write_address(Address(socket.gethostname(), port, run_dir.run_id(), server.secret))
        fleet.start()
        _watch(server, ledger, fleet, tell, stop, check)
        fleet.finish()
    except Exception:
        _stop_early(server, fleet, stop)
        raise
    finally:
        fleet.kill()
        server.close()
        run_dir.forget_address()
        ledger.sync()
    counts = server.status.counts
    finished = counts.done + counts.failed + counts.skipped == counts.total
    return Outcome(counts, server.status.shares, interrupted=stop.times > 0 and not finished)


def _dispatcher(
    plan: Plan,
    run_dir: RunDir,
    ledger: Ledger,
    leave: NDArray[np.uint8],
    warn: Callable[[str], None],
) -> Dispatcher:
    def failure(block: int, trouble: Trouble) -> Failure:
        roi = plan.output_grid.world_bounds(plan.numbered_block(block))
        log = str(run_dir.log_file(trouble.worker))
        failure = Failure(block, roi, trouble.attempts, trouble.error, trouble.traceback, log)
        run_dir.failures.add(failure)
        return failure

    return Dispatcher(
        FreshBlocks(plan, leave),
        ledger,
        plan.config.retries,
        plan.config.block_timeout,
        Notes(failure, run_dir.events.write, warn),
    )


def _watch(
    server: Server,
    ledger: Ledger,
    fleet: Fleet,
    tell: Callable[[Counts], None],
    stop: StopRequest,
    check: Callable[[], None],
) -> None:
    """Until all blocks are final, or those in work after a stop; raises what ends the run early."""
    draining = False
    synced = time.monotonic()
    while not server.status.finished.wait(POLL_S):
        server.check()
        check()
        tell(server.status.counts)
        _end_lost(server, fleet)
        if stop.times and not draining:
            draining = True
            server.drain()
            fleet.drain(server.status.joined)
        if draining and (stop.times > 1 or not fleet.alive):
            return
        if not draining:
            fleet.check(server.status.joined)
        if time.monotonic() - synced > SYNC_S:
            ledger.sync()
            synced = time.monotonic()
    server.check()
    tell(server.status.counts)


def _end_lost(server: Server, fleet: Fleet) -> None:
    while True:
        try:
            fleet.end_worker(server.status.lost.get_nowait())
        except Empty:
            return


def _stop_early(server: Server, fleet: Fleet, stop: StopRequest) -> None:
    """Let the workers finish what they hold, for a while."""
    server.drain()
    fleet.drain(server.status.joined)
    deadline = time.monotonic() + STOP_GRACE_S
    while fleet.alive and not stop.times and time.monotonic() < deadline:
        _end_lost(server, fleet)
        time.sleep(POLL_S)
