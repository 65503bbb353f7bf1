"""Preparing the run directory and the output, for a new run or one that is resumed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import RunStateError
from blockwise_predict.io import create_output, open_output, output_exists
from blockwise_predict.plan.parts import ArrayPlan, OutputPlan
from blockwise_predict.records.identity import check_identity
from blockwise_predict.records.ledger import FINISHED, PREDICTED, UNSELECTED, Ledger, State
from blockwise_predict.records.output_spec import array_spec
from blockwise_predict.run.extension import (
    check_extension,
    conclude_extension,
    extend_run,
    extends,
)
from blockwise_predict.run.overwrite import count_done, delete_earlier_run, made_by_run
from blockwise_predict.run.planned import PlannedRun
from blockwise_predict.run.reporter import Reporter


def prepare_run(run: PlannedRun, command: str, report: Reporter) -> None:
    """Record a run and create its output; if it is resumed, check that both are this run's.

    The caller must hold the run's lock. Raises RunStateError if records or output are of another
    run.
    """
    plan, run_dir = run.plan, run.run_dir
    if run.overwrite:
        delete_earlier_run(plan, run_dir, report)
    existing = [array for array in plan.output.arrays if output_exists(array.path)]
    missing = [array for array in plan.output.arrays if array not in existing]
    if run_dir.begun:
        check_extension(plan, run_dir)
        recorded = run_dir.plan()
        larger = extends(plan, recorded)
        check_identity(plan, run_dir, larger_roi=larger)
        if larger:
            extend_run(recorded, plan, run_dir, command=command, tell=report.line)
            return
        conclude_extension(plan, run_dir)
        done = count_done(plan, run_dir)
        if done and missing:
            raise RunStateError(
                f"{run_dir} records {done} finished blocks, but {missing[0].path} is gone. "
                "Put it back, or start afresh with --overwrite."
            )
    elif existing:
        path = existing[0].path
        replace = ", or replace it with --overwrite" if made_by_run(path) else ""
        raise RunStateError(
            f"--output {path} exists, and {run_dir} has no record of a run that "
            f"made it. Give another name{replace}."
        )
    run_dir.record(plan, command)
    for array in missing:
        create_output(array_spec(plan, array, command), overwrite=run.overwrite)
    for array in plan.output.arrays:
        _check_array(plan.output, array)


def _check_array(plan: OutputPlan, array: ArrayPlan) -> None:
    """Raise RunStateError if a stored array differs from the planned one."""
    output = open_output(array.path)
    sizes = (output.shape, output.chunk_shape, output.write_shape)
    stored = (output.format, *sizes, str(output.dtype))
    planned = (plan.format, plan.shape, plan.chunk_shape, plan.write_shape, array.dtype)
    if stored != planned:
        raise RunStateError(
            f"{array.path} is not the array that this run made: it is {stored}, and was "
            f"{planned} (format, shape, chunks, files, dtype). Put that back, or start afresh with "
            "--overwrite."
        )


def blocks_to_skip(ledger: Ledger, only_failed: bool) -> NDArray[np.uint8]:
    """Mask of the blocks that this run does not do, u1 per block, in C order."""
    if only_failed:
        return (ledger.states != State.FAILED).astype(np.uint8)
    return np.isin(ledger.states, FINISHED).astype(np.uint8)


def apply_options(run: PlannedRun, ledger: Ledger) -> None:
    """Record which blocks the run's options leave out, and those that are to be done after all.

    What is predicted is kept, whether the options select it or not.
    """
    states = ledger.states.copy()
    states[np.isin(states, UNSELECTED)] = State.TODO
    if run.plan.config.bad_input != "skip":
        states[states == State.SKIPPED] = State.TODO
    if not run.plan.config.skip_empty:
        states[states == State.EMPTY] = State.TODO
    if run.selection is not None:
        predicted = np.isin(states, PREDICTED)
        states[run.selection.outside.reshape(-1) & ~predicted] = State.OUTSIDE
        states[run.selection.masked_out.reshape(-1) & ~predicted] = State.MASKED
    ledger.set_states(states)
