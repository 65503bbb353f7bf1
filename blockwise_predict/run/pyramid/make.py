"""`predict pyramid`, and `--pyramid` at the end of a run."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from blockwise_predict.errors import RunStateError
from blockwise_predict.io.downsampled import Method
from blockwise_predict.io.kvstore import normalize
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.records import RunDir
from blockwise_predict.records.find import find_run
from blockwise_predict.records.ledger import FINISHED, LedgerDamagedError
from blockwise_predict.records.lock import hold_lock
from blockwise_predict.run.pyramid.build import Watch, build_levels
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.result import RunResult
from blockwise_predict.run.stop import StopRequest

# Interval of the lines that say how far a run's levels are.
LINE_INTERVAL_S = 10.0


def make_pyramid(
    output: str,
    *,
    run_dir: str | None,
    trust_run_dir: bool,
    method: Method | None,
    levels: int | None,
    watch: Watch,
) -> None:
    """Make the levels of a recorded run's output: of one array, or of all in its group.

    `method` None: that of each array's values.

    Raises an InputError if there is no such run, if it is going on, or if blocks are left to do.
    """
    records, plan = find_run(output, run_dir, trust_run_dir=trust_run_dir)
    arrays = plan.output.arrays
    named = [array for array in arrays if normalize(array.path) == normalize(output)]
    with ExitStack() as held:
        with records.usable():
            lock = hold_lock(records.path / "lock", watch.tell, trusted=trust_run_dir)
            held.enter_context(lock)
        _check_complete(plan, records)
        for array in named or arrays:
            build_levels(array.path, method or _method_for(array), levels, watch)


def _method_for(array: ArrayPlan) -> Method:
    """The method for an array's values: means of masks and labels would be neither."""
    return "mean" if array.decision is None else "mode"


def _check_complete(plan: Plan, records: RunDir) -> None:
    try:
        states = records.block_states(plan)
    except LedgerDamagedError as error:
        raise RunStateError(
            f"{error} It records whether {plan.output.path} is complete. Rebuild it:\n"
            f"  predict verify {plan.output.path} --repair"
        ) from None
    if left := int((~np.isin(states, FINISHED)).sum()):
        raise RunStateError(
            f"{left} of {plan.num_blocks} blocks of {plan.output.path} are not predicted yet. "
            "Complete it first: the same predict run command resumes it."
        )


def with_pyramid(result: RunResult, report: Reporter, stop: StopRequest) -> RunResult:
    """The result of a run whose levels are made if it is to have some and is complete.

    It counts as interrupted if the levels are not complete because `stop` was requested.
    """
    plan = result.plan
    if not plan.config.pyramid or not result.complete or result.interrupted:
        return result
    watch = Watch(report.line, _Lines(report), lambda: stop.times > 0)
    for array in plan.output.arrays:
        if not build_levels(array.path, _method_for(array), None, watch):
            return replace(result, interrupted=True)
    return result


class _Lines:
    """Says now and then how far a level is."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last >= LINE_INTERVAL_S:
            self._last = time.monotonic()
            self._report.line(f"Downsampling: {done}/{total} blocks of the level")
