"""Running a plan's blocks: serving the workers and supervising their fleet."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.values import listen_address
from blockwise_predict.errors import LockLostError
from blockwise_predict.fleet.protocol import Fleet
from blockwise_predict.records import RunDir
from blockwise_predict.records.address import Address
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.ledger import Ledger
from blockwise_predict.records.status import Counts, Published, WorkerStatus, publish
from blockwise_predict.run.stop import StopRequest
from blockwise_predict.scheduling.block_source import BlockSource
from blockwise_predict.scheduling.dispatcher import Callbacks, Dispatcher
from blockwise_predict.scheduling.members import Changes
from blockwise_predict.scheduling.retries import Attempts
from blockwise_predict.scheduling.server import Server
from blockwise_predict.scheduling.transport.sockets import reachable_at

# Interval of the supervising loop (seconds).
POLL_S = 0.1
# Grace period for workers to finish their blocks when the run must stop (seconds).
STOP_GRACE_S = 30.0
# Intervals for syncing the ledger to disk and for checking for `predict scale` (seconds).
SYNC_S, RESCALE_S = 30.0, 1.0
# Intervals for showing the workers and for writing the status (seconds).
SHOW_S, PUBLISH_S = 1.0, 3.0


@dataclass(frozen=True)
class Outcome:
    """How a run's blocks ended.

    `busy` is the share of the time that each worker's device was computing, by the worker's number,
    `seconds` the duration.
    """

    counts: Counts
    busy: dict[int, float]
    interrupted: bool
    seconds: float


@dataclass(frozen=True)
class Job:
    """What is done block by block, under the options of `config`.

    `source` makes the blocks to do, in the thread that hands them out; `where` says in words where
    a block is. `untouched` is a number of blocks that are neither finished nor to do.
    """

    config: RunConfig
    source: Callable[[], BlockSource]
    where: Callable[[int], str]
    untouched: int = 0


def run_blocks(
    job: Job,
    run_dir: RunDir,
    ledger: Ledger,
    *,
    fleet: Fleet,
    progress: Callable[[Counts], None],
    show_workers: Callable[[tuple[WorkerStatus, ...]], None],
    warn: Callable[[str], None],
    stop: StopRequest,
    check_lock: Callable[[], None],
) -> Outcome:
    """Run all blocks of a job; return when they are done, or on `stop`.

    `progress` gets the counts at each poll, `show_workers` the workers about once a second, `warn`
    messages for the user; `check_lock` raises LockLostError when another run has taken over. Raises
    RunFailedError if the run has to stop early, after letting workers finish the blocks that they
    hold, and OSError if a record cannot be written.
    """
    started = time.monotonic()
    make_dispatcher = partial(_dispatcher, job, run_dir, ledger=ledger, warn=warn)
    host, port = fleet.listens_on, 0
    if job.config.listen is not None:
        host, port = listen_address(job.config.listen)
    run, event = run_dir.run_id(), run_dir.events.write
    server = Server(
        make_dispatcher, run=run, first_number=fleet.first_free, host=host, port=port, event=event
    )
    supervisor = _Supervisor(
        server=server,
        run_dir=run_dir,
        ledger=ledger,
        fleet=fleet,
        progress=progress,
        show_workers=show_workers,
        stop=stop,
        check_lock=check_lock,
    )

    def stop_now() -> bool:
        return stop.at_once

    own, others = reachable_at(host)
    if not others and job.config.fleet_kind in ("slurm", "lsf"):
        warn(f"--listen {host} is {own}: jobs on other machines cannot reach it.")
    address = Address(socket.gethostname(), own, others, server.port, server.key)
    end: Callable[[], None] = partial(fleet.kill, stop_now)
    publish_end: Callable[[], None] = supervisor.publish
    server.start()
    try:
        run_dir.clear_worker_request()
        run_dir.write_address(address)
        if not stop.times:
            fleet.start(stop_now)
        supervisor.until_the_end()
        if not stop.at_once:
            fleet.finish(lambda: server.status.membership, stop_now)
    except LockLostError:
        # The jobs in the queue and the records now belong to the other run.
        server.drain()
        end, publish_end = fleet.abandon, lambda: None
        raise
    except Exception:
        supervisor.stop_early()
        raise
    finally:
        end()
        server.close()
        run_dir.forget_address(address)
        ledger.sync()
        publish_end()
        show_workers(())
    counts = server.status.counts
    finished = counts.final == counts.total
    return Outcome(
        counts,
        server.status.shares,
        interrupted=stop.times > 0 and not finished,
        seconds=time.monotonic() - started,
    )


def _dispatcher(
    job: Job, run_dir: RunDir, *, ledger: Ledger, warn: Callable[[str], None]
) -> Dispatcher:
    def failure(block: int, attempts: Attempts) -> Failure:
        failure = Failure(
            block,
            job.where(block),
            attempts.count,
            attempts.error,
            attempts.traceback,
            attempts.log,
        )
        run_dir.failures.add(failure)
        return failure

    return Dispatcher(
        job.source(),
        ledger,
        Callbacks(failure, run_dir.events.write, warn),
        retries=job.config.retries,
        block_timeout=job.config.block_timeout,
        untouched=job.untouched,
    )


class _Supervisor:
    """Supervises a run from the calling thread, until its last block is final."""

    def __init__(
        self,
        *,
        server: Server,
        run_dir: RunDir,
        ledger: Ledger,
        fleet: Fleet,
        progress: Callable[[Counts], None],
        show_workers: Callable[[tuple[WorkerStatus, ...]], None],
        stop: StopRequest,
        check_lock: Callable[[], None],
    ) -> None:
        self._server = server
        self._run_dir = run_dir
        self._ledger = ledger
        self._fleet = fleet
        self._progress = progress
        self._show_workers = show_workers
        self._stop = stop
        self._check_lock = check_lock
        self._began = time.time()
        self._synced = self._rescaled = time.monotonic()
        self._shown = self._published = 0.0

    def until_the_end(self) -> None:
        """Return when all blocks are final or, after a stop request, the run is drained.

        Raises the error that stops the run early.
        """
        status = self._server.status
        while not status.finished.wait(POLL_S):
            self._server.check()
            self._check_lock()
            self._progress(status.counts)
            if self._stop.times:
                self._drain()
                break
            self._publish()
            self._periodic_work()
            self._check_fleet()
        self._server.check()
        self._progress(status.counts)

    def _check_fleet(self) -> None:
        status = self._server.status
        lost = set()
        while not status.lost.empty():
            lost.add(status.lost.get())
        if lost:
            self._fleet.end_workers(lost, status.membership)
        self._apply(self._fleet.check(status.membership))

    def _apply(self, changes: Changes) -> None:
        self._server.release(changes.leaving)
        self._server.gone(changes.gone)

    def _periodic_work(self) -> None:
        now = time.monotonic()
        if now - self._synced > SYNC_S:
            self._ledger.sync()
            self._synced = now
        if now - self._rescaled > RESCALE_S:
            self._rescaled = now
            wanted = self._run_dir.requested_workers()
            if wanted is not None and wanted != self._fleet.size:
                self._run_dir.events.write("scale", workers=wanted, before=self._fleet.size)
                self._apply(self._fleet.scale(wanted, self._server.status.membership))

    def _publish(self) -> None:
        """Show the workers, and write the status for others to look at."""
        now = time.monotonic()
        if now - self._shown > SHOW_S:
            self._shown = now
            self._show_workers(self._server.status.workers)
        if now - self._published > PUBLISH_S:
            self._published = now
            self.publish()

    def publish(self) -> None:
        """Write the status for others to look at."""
        status = self._server.status
        published = Published(
            time.time(), self._began, status.counts, self._fleet.size, status.workers
        )
        # A full disk will be told by what the run depends on.
        with suppress(OSError):
            publish(self._run_dir.path, published)

    def _drain(self) -> None:
        """Return when the blocks in flight are done, or the user asks to stop at once."""
        status = self._server.status
        self._server.drain()
        self._fleet.drain(status.membership)
        while not self._stop.at_once and status.counts.processing:
            status.finished.wait(POLL_S)
            self._server.check()
            self._progress(status.counts)
            self._publish()
            self._check_fleet()

    def stop_early(self) -> None:
        """Let workers finish the blocks that they hold, for at most `STOP_GRACE_S`."""
        status = self._server.status
        self._server.drain()
        self._fleet.drain(status.membership)
        started = time.monotonic()
        while not self._stop.times and time.monotonic() - started < STOP_GRACE_S:
            if not status.membership.present:
                return
            self._check_fleet()
            time.sleep(POLL_S)
