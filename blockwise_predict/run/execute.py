"""Executing a planned run: take the lock, prepare, run the blocks, sum up."""

from __future__ import annotations

import shlex
from contextlib import ExitStack, closing
from functools import partial

from blockwise_predict.errors import RunStateError, as_records_error
from blockwise_predict.fleet import cancel_leftovers, check_fleet, job_settings, make_fleet
from blockwise_predict.io import sample_digests
from blockwise_predict.plan.reading import reading_of
from blockwise_predict.records.identity import check_unchanged
from blockwise_predict.records.ledger import PREDICTED, UNSELECTED, State
from blockwise_predict.records.lock import hold_lock
from blockwise_predict.records.room import room_problem
from blockwise_predict.records.status import Counts
from blockwise_predict.run.planned import PlannedRun
from blockwise_predict.run.prepare import apply_options, blocks_to_skip, prepare_run
from blockwise_predict.run.pyramid.discard import discard_levels
from blockwise_predict.run.pyramid.make import with_pyramid
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.result import RunResult, collect_result
from blockwise_predict.run.stop import StopRequest
from blockwise_predict.run.supervision import Job, run_blocks
from blockwise_predict.run.warnings import RecordedWarnings
from blockwise_predict.scheduling.blocks import DaisyBlockSource


def execute(
    run: PlannedRun,
    command: str,
    *,
    report: Reporter,
    stop: StopRequest,
    only_failed: bool = False,
) -> RunResult:
    """Begin or resume a planned run; with `only_failed`, do only the blocks that failed before.

    `command` goes into the records, as the command that was run. Raises an InputError before
    anything is written if something does not fit, and RunFailedError if the run has to stop early.
    """
    plan, run_dir, config = run.plan, run.run_dir, run.plan.config
    for note in run.notes:
        report.line(note)
    for warning in run.cautions:
        report.warn(warning)
    check_fleet(config, run_dir, report.warn)
    if problem := room_problem(plan, run_dir):
        raise RunStateError(problem)
    run_dir.make()
    with ExitStack() as opened:
        with run_dir.usable():
            held = hold_lock(run_dir.path / "lock", report.line, trusted=run_dir.trusted)
            lock = opened.enter_context(held)
            wanted, stop_now = job_settings(config), lambda: stop.at_once
            cancel_leftovers(run_dir, wanted, report.line, stop_now, keep=not run.overwrite)
            prepare_run(run, command, report)
            ledger = opened.enter_context(closing(run_dir.ledger(plan)))
            apply_options(run, ledger)
            skip_mask = blocks_to_skip(ledger, only_failed)
            run_dir.failures.keep(set(ledger.blocks(State.FAILED)))
            untouched = int((skip_mask.astype(bool) & (ledger.states == State.TODO)).sum())
            total = plan.num_blocks - ledger.count(*UNSELECTED) - untouched
            left_out = (ledger.count(State.SKIPPED), ledger.count(State.EMPTY))
            report.begin(plan, Counts(total, ledger.count(*PREDICTED), 0, 0, *left_out))
            if skip_mask.all():
                cancel_leftovers(run_dir, None, report.line, stop_now, keep=False)
                result = collect_result(plan, run_dir, ledger)
                return with_pyramid(
                    result, run_dir, report=report, stop=stop, check_lock=lock.check
                )
            discard_levels(plan, report.line)
            run_dir.events.write("begin", command=command, version=plan.version)
            warn = RecordedWarnings(run_dir, report)
            fleet = make_fleet(config, run_dir, warn)
        if config.workers == 0:
            words = shlex.join(["predict", "worker", str(run_dir), *config.consent_options])
            report.line(f"No workers are started; add them with: {words}")
        order, workers = reading_of(plan).order, config.planned_workers
        source = partial(DaisyBlockSource, order, skip_mask, workers)
        with as_records_error():
            outcome = run_blocks(
                Job(config, source, plan.where, untouched),
                run_dir,
                ledger,
                fleet=fleet,
                progress=report.progress,
                show_workers=report.workers,
                warn=warn,
                stop=stop,
                check_lock=lock.check,
            )
            if not stop.at_once:
                check_unchanged(plan, sample_digests(run.opened.array))
            run_dir.events.write("end", done=outcome.counts.done, busy=outcome.busy)
            result = collect_result(plan, run_dir, ledger, outcome)
            return with_pyramid(result, run_dir, report=report, stop=stop, check_lock=lock.check)
