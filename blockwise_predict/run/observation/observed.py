"""Executing a run while metrics are served and the user's command is run as they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.config.version import __version__
from blockwise_predict.errors import PredictError
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.ledger import read_records
from blockwise_predict.records.status import Counts, WorkerStatus
from blockwise_predict.run.execute import execute
from blockwise_predict.run.observation.metrics import STEPS, RunMetrics, served
from blockwise_predict.run.observation.notify import ExpectedPace, Notice, Notifier
from blockwise_predict.run.planned import PlannedRun
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.result import RunResult
from blockwise_predict.run.stop import StopRequest


def execute_observed(
    run: PlannedRun,
    command: str,
    *,
    report: Reporter,
    stop: StopRequest,
    only_failed: bool = False,
) -> RunResult:
    """What `execute` does, with the metrics and the notifications that the options ask for.

    Raises ConfigError if metrics cannot be served, and what `execute` raises.
    """
    config = run.plan.config
    with ExitStack() as opened:
        observers = [report]
        if config.metrics_port is not None:
            metrics = RunMetrics(_info(run.plan), partial(_step_seconds, run))
            url = opened.enter_context(served(metrics, config.metrics_port))
            opened.enter_context(run.run_dir.events.listener(metrics.event))
            report.line(f"Metrics: {url}")
            observers.append(metrics)
        execute_it = partial(execute, run, command, stop=stop, only_failed=only_failed)
        if config.notify is None:
            return execute_it(report=_Several(observers))
        notifier = _notifier(config.notify, run, report, stop)
        try:
            result = execute_it(report=_Several([*observers, notifier]))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                notifier.tell(Notice.INTERRUPTED, notifier.interruption)
            else:
                notifier.tell(Notice.FAILED, str(error) or type(error).__name__)
            raise
        notifier.tell(*_ending(result))
        return result


class _Several(Reporter):
    """Passes what a run reports on to several observers; messages only to the first."""

    def __init__(self, observers: Sequence[Reporter]) -> None:
        self._observers = observers

    def line(self, text: str) -> None:
        self._observers[0].line(text)

    def warn(self, text: str) -> None:
        self._observers[0].warn(text)

    def begin(self, plan: Plan, counts: Counts) -> None:
        for observer in self._observers:
            observer.begin(plan, counts)

    def progress(self, counts: Counts) -> None:
        for observer in self._observers:
            observer.progress(counts)

    def workers(self, workers: tuple[WorkerStatus, ...]) -> None:
        for observer in self._observers:
            observer.workers(workers)


def _notifier(command: str, run: PlannedRun, report: Reporter, stop: StopRequest) -> Notifier:
    about = {"PREDICT_OUTPUT": run.plan.output.path, "PREDICT_RUN_DIR": str(run.run_dir)}
    config, requested = run.plan.config, run.run_dir.requested_workers

    def wanted() -> int:
        asked = requested()
        return config.workers if asked is None else asked

    pace = ExpectedPace(partial(_median_seconds, run), config.block_timeout, wanted)
    return Notifier(command, about, pace=pace, stop=stop, warn=report.warn)


def _ending(result: RunResult) -> tuple[Notice, str]:
    """What to tell of the end of a run."""
    path, blocks = result.plan.output.path, result.plan.num_blocks
    done = f"{path}: {result.done} of {blocks} blocks are predicted"
    if result.interrupted:
        return Notice.INTERRUPTED, f"{done}."
    if result.failures:
        first = result.failures[0]
        text = f"{done}, {len(result.failures)} failed. The first: {first.roi}: {first.error}"
        return Notice.FAILED, text
    return (Notice.FINISHED if result.complete else Notice.FAILED), f"{done}."


def _info(plan: Plan) -> dict[str, str]:
    return {
        "output": plan.output.path,
        "input": plan.input.path,
        "weights_sha256": plan.network.weights_sha256,
        "version": __version__,
    }


def _records(run: PlannedRun) -> NDArray[np.void] | None:
    """The records of all blocks now; None if they cannot be read."""
    plan, run_dir = run.plan, run.run_dir
    try:
        return read_records(
            run_dir.ledger_file(plan), plan.blocks_per_axis, trusted=run_dir.trusted
        )
    except (PredictError, OSError):
        return None


def _step_seconds(run: PlannedRun) -> dict[str, float]:
    records = _records(run)
    if records is None:
        return {}
    return {step: float(records[step].sum(dtype=np.float64)) for step in STEPS}


def _median_seconds(run: PlannedRun) -> float:
    records = _records(run)
    took = np.zeros(0) if records is None else records["took"][records["took"] > 0]
    return float(np.median(took)) if took.size else 0.0
