"""Processing and recording the blocks that another scheduler hands out."""

from __future__ import annotations

import os
import traceback
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from blockwise_predict.engine.compute_queue import Compute, compute_inline
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.errors import LockLostError, as_records_error
from blockwise_predict.io import sample_digests
from blockwise_predict.plan.planned_input import open_planned
from blockwise_predict.records import RunDir
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.identity import check_unchanged
from blockwise_predict.records.ledger import FINISHED, State
from blockwise_predict.records.lock import read_holder
from blockwise_predict.run.pipelines.open_run import WorkerPass
from blockwise_predict.run.result import collect_result
from blockwise_predict.worker.block import FatalError, StageError, describe
from blockwise_predict.worker.setup import build_processor


class PipelineWorker:
    """Processes and records the blocks of an open run.

    Several threads may use it, if their `compute` has one of them compute at a time. `number`
    distinguishes the workers of a machine, and selects the GPU. Raises an InputError if something
    that the run names can no longer be opened.
    """

    def __init__(self, worker_pass: WorkerPass, number: int) -> None:
        self._pass = worker_pass
        self._run_dir = RunDir(Path(worker_pass.run_dir), trusted=worker_pass.trusted)
        self._check_lock()
        self.plan = self._run_dir.plan(
            unsafe_load_pickle=worker_pass.unsafe_load_pickle, factory=worker_pass.factory
        )
        config = self.plan.config
        # This worker's share of the cores; `fleet.processes` does the same for our own workers.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // worker_pass.workers))
        device = choose_device(config.device, number)
        self._processor = build_processor(self.plan, device, self._run_dir)
        self._ledger = self._run_dir.ledger(self.plan)

    def process(self, number: int, compute: Compute = compute_inline) -> None:
        """Process a block and record the outcome; does nothing if the block is finished already.

        Raises the block's error after recording it. FatalError, LockLostError and RecordsError mean
        that every other block would fail, too.
        """
        self._check_lock()
        if self._ledger.states[number] in FINISHED:
            return
        try:
            report = self._processor.process(self.plan.numbered_block(number), compute)
        except Exception as error:
            self._check_lock()
            self._record_failure(number, error)
            raise
        self._check_lock()
        with as_records_error():
            self._ledger.set(number, report.state, report.clipped, report.nonfinite)

    def close(self) -> None:
        """Finish working; if no block of the run is left, record its end in the output.

        Raises RunFailedError if the input has changed since the run began; the run then stays
        incomplete.
        """
        self._ledger.close()
        with closing(self._run_dir.ledger(self.plan)) as ledger:
            # While another worker still has blocks, recording the end is left to that one.
            if not np.isin(ledger.states, FINISHED).all():
                return
            self._check_lock()
            check_unchanged(self.plan, sample_digests(open_planned(self.plan)))
            collect_result(self.plan, self._run_dir, ledger)

    def _record_failure(self, number: int, error: Exception) -> None:
        """Record a failed attempt. Only the other scheduler knows how many there were: we say 1."""
        roi = self.plan.output_grid.world_bounds(self.plan.numbered_block(number))
        has_stage = isinstance(error, (StageError, FatalError))
        text = str(error) if has_stage else describe(error)
        failure = Failure(number, roi, 1, text, traceback.format_exc(), None)
        with as_records_error():
            self._run_dir.failures.add(failure)
            self._ledger.set(number, State.FAILED)

    def _check_lock(self) -> None:
        """Raise LockLostError unless the process that opened the run still holds its lock."""
        file = self._run_dir.path / "lock"
        holder = read_holder(file)
        if holder is None or holder.key != self._pass.lock_key:
            by = f"is held by {holder}" if holder else "was released"
            raise LockLostError(
                f"the lock {file} {by}: the process that began this run has ended, or lost it. "
                "This worker stops; what it finished is recorded."
            )
