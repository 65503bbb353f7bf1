"""Runs a plan's blocks to the end: serves the workers, and watches over their fleet."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.config.values import listen_address
from blockwise_predict.errors import LockLostError
from blockwise_predict.fleet.protocol import Fleet
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.address import Address
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.ledger import Ledger
from blockwise_predict.scheduling.blocks import DaisyBlockSource
from blockwise_predict.scheduling.dispatcher import Callbacks, Dispatcher
from blockwise_predict.scheduling.members import Changes, Counts
from blockwise_predict.scheduling.retries import Attempts
from blockwise_predict.scheduling.server import Server
from blockwise_predict.scheduling.transport.sockets import reachable_at

POLL_S = 0.1
# Time for workers to finish what they hold when the run must stop (seconds).
STOP_GRACE_S = 30.0
# Intervals at which the ledger is brought to the disk, and another number of workers looked for.
SYNC_S, LOOK_S = 30.0, 1.0


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
        self._limit = float("inf")

    def request(self, within: float = float("inf")) -> None:
        """Ask once more; what is not done `within` so many seconds is left undone."""
        self.times += 1
        self._limit = min(self._limit, time.monotonic() + within)

    @property
    def at_once(self) -> bool:
        """Whether nothing is waited for any more."""
        return self.times > 1 or time.monotonic() > self._limit


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
    finished what they hold; OSErrors mean that a record could not be written.
    """
    make_dispatcher = partial(_dispatcher, plan, run_dir, ledger, leave, warn)
    host, port = fleet.listens_on, 0
    if plan.config.listen is not None:
        host, port = listen_address(plan.config.listen)
    run, event = run_dir.run_id(), run_dir.events.write
    server = Server(
        make_dispatcher, run=run, first_number=fleet.first_free, host=host, port=port, event=event
    )
    watch = _Watch(server, run_dir, ledger, fleet, tell, stop, check)

    def hurry() -> bool:
        return stop.at_once

    own, others = reachable_at(host)
    if not others and plan.config.fleet_kind in ("slurm", "lsf"):
        warn(f"--listen {host} is {own}: jobs on other machines cannot reach it.")
    address = Address(socket.gethostname(), own, others, server.port, server.key)
    end: Callable[[], None] = partial(fleet.kill, hurry)
    server.start()
    try:
        run_dir.clear_worker_request()
        run_dir.write_address(address)
        if not stop.times:
            fleet.start(hurry)
        watch.until_the_end()
        if not stop.at_once:
            fleet.finish(lambda: server.status.membership, hurry)
    except LockLostError:
        # The jobs in the queue are the other run's now; what workers hold is not their fault.
        server.drain()
        end = fleet.abandon
        raise
    except Exception:
        watch.stop_early()
        raise
    finally:
        end()
        server.close()
        run_dir.forget_address(address)
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
    def failure(block: int, attempts: Attempts) -> Failure:
        roi = plan.output_grid.world_bounds(plan.numbered_block(block))
        failure = Failure(
            block, roi, attempts.count, attempts.error, attempts.traceback, attempts.log
        )
        run_dir.failures.add(failure)
        return failure

    return Dispatcher(
        DaisyBlockSource(plan, leave),
        ledger,
        Callbacks(failure, run_dir.events.write, warn),
        retries=plan.config.retries,
        block_timeout=plan.config.block_timeout,
    )


class _Watch:
    """Looks after a run, from its beginning to its end, in the main thread."""

    def __init__(
        self,
        server: Server,
        run_dir: RunDir,
        ledger: Ledger,
        fleet: Fleet,
        tell: Callable[[Counts], None],
        stop: StopRequest,
        check: Callable[[], None],
    ) -> None:
        self._server = server
        self._run_dir = run_dir
        self._ledger = ledger
        self._fleet = fleet
        self._tell = tell
        self._stop = stop
        self._check = check
        self._synced = self._looked = time.monotonic()

    def until_the_end(self) -> None:
        """Until all blocks are final, or those in work after a stop; raises what ends it early."""
        status = self._server.status
        while not status.finished.wait(POLL_S):
            self._server.check()
            self._check()
            self._tell(status.counts)
            if self._stop.times:
                self._drain()
                break
            self._now_and_then()
            self._look_after_fleet()
        self._server.check()
        self._tell(status.counts)

    def _look_after_fleet(self) -> None:
        status = self._server.status
        lost = set()
        while not status.lost.empty():
            lost.add(status.lost.get())
        if lost:
            self._fleet.end_workers(lost, status.membership)
        self._pass_on(self._fleet.check(status.membership))

    def _pass_on(self, changes: Changes) -> None:
        self._server.release(changes.leaving)
        self._server.gone(changes.gone)

    def _now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._synced > SYNC_S:
            self._ledger.sync()
            self._synced = now
        if now - self._looked > LOOK_S:
            self._looked = now
            wanted = self._run_dir.requested_workers()
            if wanted is not None and wanted != self._fleet.size:
                self._run_dir.events.write("scale", workers=wanted, before=self._fleet.size)
                self._pass_on(self._fleet.scale(wanted, self._server.status.membership))

    def _drain(self) -> None:
        """Until the blocks in work are done, or the user will not wait for them."""
        status = self._server.status
        self._server.drain()
        self._fleet.drain(status.membership)
        while not self._stop.at_once and status.counts.processing:
            status.finished.wait(POLL_S)
            self._server.check()
            self._tell(status.counts)
            self._look_after_fleet()

    def stop_early(self) -> None:
        """Let the workers finish what they hold, for a while."""
        status = self._server.status
        self._server.drain()
        self._fleet.drain(status.membership)
        begun = time.monotonic()
        while not self._stop.times and time.monotonic() - begun < STOP_GRACE_S:
            if not status.membership.present:
                return
            self._look_after_fleet()
            time.sleep(POLL_S)
