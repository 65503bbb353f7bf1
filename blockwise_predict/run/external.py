"""Runs whose blocks another scheduler hands out: daisy's own server in a pipeline, or volara.

The run is recorded as `predict run` records it, so that either can finish what the other began.
The process that opens the run holds its lock until it ends. There is no scheduler of ours to keep
the ledger: each worker writes the records of its own blocks, in place and after their chunks are
committed, and works only as long as that process holds the lock. A record that is lost, with a
machine or on a file system that is not coherent, means that a block is done again.
"""

from __future__ import annotations

import atexit
import os
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blockwise_predict.engine.compute_queue import Compute, compute_inline
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.errors import ConfigError, LockLostError, RecordsError, RunStateError
from blockwise_predict.geometry.grid import exact_lengths
from blockwise_predict.io import InputArray, open_input, sample_digests
from blockwise_predict.records import RunDir
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.identity import check_unchanged
from blockwise_predict.records.ledger import PREDICTED, State
from blockwise_predict.records.lock import hold_lock, read_holder
from blockwise_predict.records.room import room_problem
from blockwise_predict.run.planned import PlannedRun
from blockwise_predict.run.prepare import blocks_to_skip, prepare_run, requeue_skipped
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.result import collect_result
from blockwise_predict.worker.block import BlockReport, FatalError, StageError, describe
from blockwise_predict.worker.setup import build_processor

FINAL = (*PREDICTED, State.SKIPPED)
"""States of blocks that need not be done."""

_REPORT = Reporter()
_locks = ExitStack()
_held: dict[Path, str] = {}
atexit.register(_locks.close)


@dataclass(frozen=True)
class WorkerPass:
    """What a worker needs to work on a run: the records, what the user has consented to for them,
    how many workers share the machine, and the key of the lock under which the run goes on."""

    run_dir: str
    trusted: bool
    unsafe_load_pickle: bool
    workers: int
    lock_key: str


def open_run(run: PlannedRun, command: str) -> tuple[WorkerPass, NDArray[np.uint8]]:
    """Begin or resume a run: returns its workers' pass, and which blocks need not be done (u1, in
    the shape of the block grid).

    This process holds the run's lock from now on, until it ends. Raises an InputError before
    anything is written if something does not fit.
    """
    plan, run_dir = run.plan, run.run_dir
    if plan.config.is_elsewhere:
        raise ConfigError(
            f"fleet {plan.config.fleet}: the pipeline starts its workers itself. Leave fleet out; "
            "workers is how many there are."
        )
    if problem := room_problem(plan, run_dir):
        raise RunStateError(problem)
    run_dir.make()
    with run_dir.usable():
        key = _hold(run_dir)
        prepare_run(run, command, _REPORT)
        with closing(run_dir.ledger(plan)) as ledger:
            requeue_skipped(plan, ledger)
            final = blocks_to_skip(ledger, only_failed=False)
            run_dir.failures.keep(set(ledger.blocks(State.FAILED)))
            run_dir.events.write("begin", command=command, version=plan.version)
            if final.all():
                collect_result(plan, run_dir, ledger)
    worker_pass = WorkerPass(
        run_dir=str(run_dir),
        trusted=run_dir.trusted,
        unsafe_load_pickle=plan.config.unsafe_load_pickle,
        workers=plan.config.planned_workers,
        lock_key=key,
    )
    return worker_pass, final.reshape(plan.blocks_per_axis)


def pass_of(run_dir: RunDir, workers: int) -> WorkerPass:
    """A pass for one of so many workers of the run that is open. Raises RunStateError if none is.

    For workers that cannot be handed the one that `open_run` gave.
    """
    with run_dir.usable():
        holder = read_holder(run_dir.path / "lock")
    if holder is None:
        raise RunStateError(f"no run is open in {run_dir}: the process that began it has ended.")
    return WorkerPass(
        run_dir=str(run_dir),
        trusted=run_dir.trusted,
        unsafe_load_pickle=False,
        workers=workers,
        lock_key=holder.key,
    )


def _hold(run_dir: RunDir) -> str:
    """Hold a run's lock until this process ends; returns its key. Raises as `hold_lock`."""
    file = run_dir.path / "lock"
    holder = read_holder(file)
    if holder is None or _held.get(file) != holder.key:
        _locks.enter_context(hold_lock(file, _REPORT.line, trusted=run_dir.trusted))
        holder = read_holder(file)
        assert holder is not None
        _held[file] = holder.key
    return holder.key


class ExternalWorker:
    """Processes and records the blocks of an open run. Safe for several threads, which compute
    one at a time.

    `number` tells the workers of a machine apart: it decides which GPU computes. Raises an
    InputError if what the run names cannot be opened any more.
    """

    def __init__(self, worker_pass: WorkerPass, number: int) -> None:
        self._pass = worker_pass
        self._run_dir = RunDir(Path(worker_pass.run_dir), trusted=worker_pass.trusted)
        self._check_held()
        self.plan = self._run_dir.plan(unsafe_load_pickle=worker_pass.unsafe_load_pickle)
        config = self.plan.config
        # The network's share of the cores; see `fleet.processes` for workers of our own.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // worker_pass.workers))
        device = choose_device(config.device, number)
        self._processor = build_processor(self.plan, device, self._run_dir)
        self._ledger = self._run_dir.ledger(self.plan)

    def process(self, number: int, compute: Compute = compute_inline) -> None:
        """Do a block, and record what has become of it; one that was done since stays as it is.

        Raises what went wrong: FatalError, LockLostError and RecordsError if no other block could
        be done either.
        """
        self._check_held()
        if self._ledger.states[number] in FINAL:
            return
        try:
            report = self._processor.process(self.plan.numbered_block(number), compute)
        except Exception as error:
            self._check_held()
            self._record_failure(number, error)
            raise
        self._check_held()
        with _recorded():
            self._ledger.set(number, _state(report), report.clipped, report.nonfinite)

    def close(self) -> None:
        """No more blocks: if that was the run's last, record its end in the output.

        Raises RunFailedError if the input was changed meanwhile; then the run stays incomplete.
        """
        self._ledger.close()
        with closing(self._run_dir.ledger(self.plan)) as ledger:
            # Another worker may still have blocks; then it is the one to record the end.
            if not np.isin(ledger.states, FINAL).all():
                return
            self._check_held()
            check_unchanged(self.plan, sample_digests(self._input()))
            collect_result(self.plan, self._run_dir, ledger)

    def _input(self) -> InputArray:
        source = self.plan.input
        return open_input(
            source.path,
            voxel_size=exact_lengths(source.voxel_size),
            offset=exact_lengths(source.offset),
        )

    def _record_failure(self, number: int, error: Exception) -> None:
        """How often the block was tried is the other scheduler's to know: each counts as one."""
        roi = self.plan.output_grid.world_bounds(self.plan.numbered_block(number))
        own = isinstance(error, (StageError, FatalError))
        text = str(error) if own else describe(error)
        failure = Failure(number, roi, 1, text, traceback.format_exc(), None)
        with _recorded():
            self._run_dir.failures.add(failure)
            self._ledger.set(number, State.FAILED)

    def _check_held(self) -> None:
        """Raise LockLostError unless the run still goes on under the lock it was opened with."""
        file = self._run_dir.path / "lock"
        holder = read_holder(file)
        if holder is None or holder.key != self._pass.lock_key:
            by = f"is held by {holder}" if holder else "was released"
            raise LockLostError(
                f"the lock {file} {by}: the process that began this run has ended, or lost it. "
                "This worker stops; what it finished is recorded."
            )


@contextmanager
def _recorded() -> Iterator[None]:
    """Turn what the system says of a record that cannot be written into RecordsError."""
    try:
        yield
    except OSError as error:
        raise RecordsError(error) from None


def _state(report: BlockReport) -> State:
    if report.skipped:
        return State.SKIPPED
    return State.FILLED if report.filled else State.DONE
