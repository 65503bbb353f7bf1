"""A run from configuration to result: lock, resume or begin, schedule, sum up."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.config.model import RunConfig
from blockwise_predict.errors import RecordsError, RunStateError
from blockwise_predict.fleet import cancel_leftovers, check_fleet, make_fleet, wanted_jobs
from blockwise_predict.io import (
    check_deletable,
    create_output,
    delete_output,
    open_output,
    output_exists,
    read_attributes,
    sample_digests,
)
from blockwise_predict.io.extend import aside
from blockwise_predict.io.kvstore import is_local
from blockwise_predict.plan.make import Opened, make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.identity import check_identity, check_unchanged
from blockwise_predict.records.ledger import PREDICTED, Ledger, LedgerDamagedError, State
from blockwise_predict.records.lock import hold_lock
from blockwise_predict.records.output_spec import output_spec
from blockwise_predict.records.provenance import ATTRIBUTE
from blockwise_predict.records.room import room_problem
from blockwise_predict.run.extension import check_extension, conclude_extension, extend_run, extends
from blockwise_predict.run.result import RunResult, collect_result
from blockwise_predict.run.supervision import StopRequest, run_blocks
from blockwise_predict.scheduling.members import Counts

# So many warnings are shown while a run goes on.
TOLD_WARNINGS = 20
# Of what --overwrite leaves, in a folder.
SHOWN_LEFT = 10


@dataclass(frozen=True)
class Reporter:
    """Where a run tells what it does."""

    line: Callable[[str], None]
    warn: Callable[[str], None]
    begin: Callable[[Plan, int], None]
    progress: Callable[[Counts], None]


def run_dir_of(config: RunConfig) -> RunDir:
    """The run directory of a configuration."""
    path = Path(config.run_dir).absolute() if config.run_dir else default_run_dir(config.output)
    return RunDir(path, trusted=config.trust_run_dir)


def plan_run(config: RunConfig) -> tuple[Plan, Opened, RunDir]:
    """What a run of a configuration would do, with what was opened for that, and its records.

    Paths of the configuration become absolute here. Raises an InputError if something does not fit.
    """
    config = config.absolute()
    run_dir = run_dir_of(config)
    run_dir.check()
    recorded = run_dir.plan() if run_dir.begun and not config.overwrite else None
    plan, opened = make_plan(config.model_copy(update={"overwrite": False}), recorded)
    return plan, opened, run_dir


def execute(
    config: RunConfig, command: str, report: Reporter, stop: StopRequest, only_failed: bool = False
) -> RunResult:
    """Run, or resume, what the configuration says; `only_failed`: only blocks that failed before.

    Raises an InputError before anything is written if something does not fit, and RunFailedError
    when the run has to stop early.
    """
    plan, inputs, run_dir = plan_run(config)
    overwrite, config = config.overwrite, plan.config
    for note in plan.notes:
        report.line(note)
    for warning in plan.warnings:
        report.warn(warning)
    check_fleet(config, run_dir, report.warn)
    if problem := room_problem(plan, run_dir):
        raise RunStateError(problem)
    run_dir.make()
    with ExitStack() as opened:
        with run_dir.usable():
            held = hold_lock(run_dir.path / "lock", report.line, trusted=run_dir.trusted)
            lock = opened.enter_context(held)
            wanted, hurry = wanted_jobs(config), lambda: stop.at_once
            cancel_leftovers(run_dir, wanted, report.line, hurry, keep=not overwrite)
            _prepare(plan, run_dir, command, report, overwrite)
            ledger = opened.enter_context(closing(run_dir.ledger(plan)))
            _take_up_skipped(plan, ledger)
            leave = _blocks_to_leave(ledger, only_failed)
            run_dir.failures.keep(set(ledger.blocks(State.FAILED)))
            report.begin(plan, ledger.count(*PREDICTED))
            if leave.all():
                cancel_leftovers(run_dir, None, report.line, hurry, keep=False)
                return collect_result(plan, run_dir, ledger)
            run_dir.events.write("begin", command=command, version=plan.version)
            warn = _Warnings(run_dir, report.warn)
            fleet = make_fleet(config, run_dir, warn)
        if config.workers == 0:
            words = shlex.join(["predict", "worker", str(run_dir), *config.consent_options])
            report.line(f"No workers are started; add them with: {words}")
        with _recorded():
            outcome = run_blocks(
                plan, run_dir, ledger, leave, fleet, report.progress, warn, stop, lock.check
            )
            if not stop.at_once:
                check_unchanged(plan, sample_digests(inputs.array))
            run_dir.events.write("end", done=outcome.counts.done, busy=outcome.busy)
            return collect_result(plan, run_dir, ledger, outcome.busy, outcome.interrupted)


@contextmanager
def _recorded() -> Iterator[None]:
    """Turn what the system says of a record that cannot be written into RecordsError."""
    try:
        yield
    except OSError as error:
        raise RecordsError(error) from None


class _Warnings:
    """Passes warnings on to the user; many go to the events alone."""

    def __init__(self, run_dir: RunDir, warn: Callable[[str], None]) -> None:
        self._run_dir = run_dir
        self._warn = warn
        self._told = 0

    def __call__(self, text: str) -> None:
        try:
            self._run_dir.events.write("warning", text=text)
            recorded = True
        except OSError:
            recorded = False
        self._told += 1
        # What cannot be recorded, since the disk is full, say, is shown at least.
        if self._told <= TOLD_WARNINGS or not recorded:
            self._warn(text)
        if self._told == TOLD_WARNINGS:
            self._warn(f"further warnings go to {self._run_dir.path / 'events.jsonl'}")


def _blocks_to_leave(ledger: Ledger, only_failed: bool) -> NDArray[np.uint8]:
    """Which blocks are not to be done, u1 per block."""
    if only_failed:
        return (ledger.states != State.FAILED).astype(np.uint8)
    return np.isin(ledger.states, (*PREDICTED, State.SKIPPED)).astype(np.uint8)


def _take_up_skipped(plan: Plan, ledger: Ledger) -> None:
    """Blocks that were left out for their input are to be done, if that rule holds no more."""
    if plan.config.bad_input != "skip":
        for block in ledger.blocks(State.SKIPPED):
            ledger.set(block, State.TODO)


def _prepare(plan: Plan, run_dir: RunDir, command: str, report: Reporter, overwrite: bool) -> None:
    """Bring run directory and output into the state to work from."""
    if overwrite:
        _forget(plan, run_dir, report)
    prepare_records(plan, run_dir, command, report.line, overwrite=overwrite)


def prepare_records(
    plan: Plan,
    run_dir: RunDir,
    command: str,
    tell: Callable[[str], None],
    *,
    overwrite: bool = False,
) -> None:
    """Record a run that is new, goes on, or is extended, and make its output. The caller holds the
    run's lock.

    Raises RunStateError if what is there is not what such a run began.
    """
    exists = output_exists(plan.output.path)
    if run_dir.begun:
        check_extension(plan, run_dir)
        recorded = run_dir.plan()
        larger = extends(plan, recorded)
        check_identity(plan, run_dir, larger_roi=larger)
        if larger:
            extend_run(recorded, plan, run_dir, command, tell)
            return
        conclude_extension(plan, run_dir)
        done = _done_blocks(plan, run_dir)
        if done and not exists:
            raise RunStateError(
                f"{run_dir} records {done} finished blocks, but {plan.output.path} is gone. "
                "Put it back, or start afresh with --overwrite."
            )
    elif exists:
        replace = ", or replace it with --overwrite" if _is_a_runs(plan.output.path) else ""
        raise RunStateError(
            f"--output {plan.output.path} exists, and {run_dir} has no record of a run that "
            f"made it. Give another name{replace}."
        )
    run_dir.record(plan, command)
    if not exists:
        create_output(output_spec(plan, command), overwrite=overwrite)
    _check_output(plan)


def _check_output(plan: Plan) -> None:
    """Raise RunStateError if the output is not the array that the plan says."""
    output = open_output(plan.output.path)
    there = (output.format, output.shape, output.chunk_shape, str(output.dtype))
    planned = (plan.output.format, plan.output.shape, plan.output.chunk_shape, plan.output.dtype)
    if there != planned:
        raise RunStateError(
            f"{plan.output.path} is not the array that this run made: it is {there}, and was "
            f"{planned} (format, shape, chunks, dtype). Put that back, or start afresh with "
            "--overwrite."
        )


def _done_blocks(plan: Plan, run_dir: RunDir) -> int:
    """Number of blocks that are recorded as predicted. Raises RunStateError without a record."""
    try:
        with closing(run_dir.ledger(plan)) as ledger:
            return ledger.count(*PREDICTED)
    except LedgerDamagedError as error:
        raise RunStateError(
            f"{error} It says which blocks are done. Write it anew from what the output holds:\n"
            f"  predict verify {plan.output.path} --repair"
        ) from None


def _forget(plan: Plan, run_dir: RunDir, report: Reporter) -> None:
    """Delete what a run has written, and nothing else; tell the user what goes and what stays."""
    path = plan.output.path
    _check_run_of(path, run_dir)
    if output_exists(path):
        if not _is_a_runs(path):
            raise RunStateError(
                f"--overwrite: {path} was not made by predict run, and nothing else is replaced. "
                "Give another --output, or remove it yourself."
            )
        check_deletable(path)
        report.warn(f"--overwrite: deleting the array {path}")
        _tell_of_left(path, delete_output(path), report)
    before = aside(path) if is_local(path) else None
    if before is not None and output_exists(before) and _is_a_runs(str(before)):
        _tell_of_left(str(before), delete_output(before), report)
    if run_dir.begun:
        recorded = _recorded_blocks(run_dir)
        report.warn(
            f"--overwrite: forgetting {recorded} finished blocks, logs and events in {run_dir}"
        )
        _tell_of_left(str(run_dir), run_dir.clear(), report)


def _check_run_of(path: str, run_dir: RunDir) -> None:
    """Raise RunStateError if a run directory records the run of another output."""
    try:
        other = run_dir.plan().output.path if run_dir.begun else path
    except RunStateError:
        # A record that is damaged does not say.
        return
    if other != path:
        raise RunStateError(
            f"--overwrite: {run_dir} holds the records of {other}, not of {path}. Name another "
            "folder with --run-dir."
        )


def _is_a_runs(path: str) -> bool:
    return isinstance(read_attributes(path).get(ATTRIBUTE), dict)


def _tell_of_left(folder: str, left: Sequence[str], report: Reporter) -> None:
    if left:
        shown = ", ".join(left[:SHOWN_LEFT]) + (", ..." if len(left) > SHOWN_LEFT else "")
        report.warn(f"--overwrite: left in {folder}, since no run has written it: {shown}")


def _recorded_blocks(run_dir: RunDir) -> int | str:
    """Number of finished blocks that are recorded, as far as that can be read."""
    try:
        return _done_blocks(run_dir.plan(), run_dir)
    except RunStateError:
        return "an unknown number of"
