"""`predict pyramid`, and `--pyramid` at the end of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blockwise_predict.config.consent import CONSENT
from blockwise_predict.config.model import WORKER_OPTIONS, RunConfig, load_config
from blockwise_predict.errors import RunStateError
from blockwise_predict.io.downsampled import Method
from blockwise_predict.io.kvstore import normalize
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.records import RunDir
from blockwise_predict.records.find import find_run
from blockwise_predict.records.ledger import FINISHED, LedgerDamagedError
from blockwise_predict.records.lock import hold_lock
from blockwise_predict.records.pyramid import pyramid_dir
from blockwise_predict.run.pyramid.build import Builders, Watch, build_levels
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.result import RunResult
from blockwise_predict.run.stop import StopRequest

# Interval of the lines that say how far a run's levels are.
LINE_INTERVAL_S = 10.0


@dataclass(frozen=True)
class Wanted:
    """Levels to make of a recorded run's `output`: of one array, or of all in its group.

    `method` None: that of each array's values. `count` levels; None: until one fits into a chunk.
    """

    output: str
    method: Method | None
    count: int | None


def make_pyramid(wanted: Wanted, given: Mapping[str, Any], watch: Watch) -> bool:
    """Make levels; whether all are complete now.

    `given` are the run directory and the options of workers: of a run, or all None for threads of
    this process. Raises an InputError if there is no such run, if it is going on, or if blocks are
    left to do, and RunFailedError if some blocks cannot be made.
    """
    trust = bool(given.get("trust_run_dir"))
    records, plan = find_run(wanted.output, given.get("run_dir"), trust_run_dir=trust)
    arrays = plan.output.arrays
    named = [array for array in arrays if normalize(array.path) == normalize(wanted.output)]
    builders = _builders(plan.config, given)
    with ExitStack() as held:
        with records.usable():
            lock = hold_lock(records.path / "lock", watch.report.line, trusted=trust)
            check = held.enter_context(lock).check
        _check_complete(plan, records)
        return build_levels(
            {array.path: wanted.method or _method_for(array) for array in named or arrays},
            wanted.count,
            records=pyramid_dir(records),
            builders=builders,
            watch=replace(watch, check_lock=check),
        )


def _method_for(array: ArrayPlan) -> Method:
    """The method for an array's values: means of masks and labels would be neither."""
    return "mean" if array.decision is None else "mode"


def _builders(recorded: RunConfig, given: Mapping[str, Any]) -> Builders:
    """Workers as this command asks for them; what the run recorded of its own does not count."""
    asked = {key: given[key] for key in WORKER_OPTIONS if given.get(key) is not None}
    own = {*CONSENT, *WORKER_OPTIONS}
    kept = recorded.model_dump(exclude_none=True, exclude=own)
    consent = {key: given[key] for key in CONSENT if given.get(key)}
    config = load_config({**kept, **asked, **consent}).absolute()
    return Builders(config, threads=config.fleet_kind == "local" and "workers" not in asked)


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


def with_pyramid(
    result: RunResult,
    records: RunDir,
    *,
    report: Reporter,
    stop: StopRequest,
    check_lock: Callable[[], None],
) -> RunResult:
    """The result of a run whose levels are made if it is to have some and is complete.

    Workers on other machines make them, if the run has such, else threads of this process. It
    counts as interrupted if the levels are not complete because `stop` was requested.
    """
    plan = result.plan
    if not plan.config.pyramid or not result.complete or result.interrupted:
        return result
    complete = build_levels(
        {array.path: _method_for(array) for array in plan.output.arrays},
        None,
        records=pyramid_dir(records),
        builders=Builders(plan.config, threads=not plan.config.is_elsewhere),
        watch=Watch(report, _Lines(report), stop, check_lock),
    )
    return result if complete else replace(result, interrupted=True)


class _Lines:
    """Says now and then how far the levels are."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last >= LINE_INTERVAL_S:
            self._last = time.monotonic()
            self._report.line(f"Downsampling: {done}/{total} blocks of the levels")
