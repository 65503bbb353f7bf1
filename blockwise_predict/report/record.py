"""What is recorded of a run, read without taking its lock or opening anything for writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.errors import ArrayError, RunStateError
from blockwise_predict.io import read_attributes
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.find import find_precision
from blockwise_predict.records.lock import is_held
from blockwise_predict.records.provenance import ATTRIBUTE
from blockwise_predict.report.blockgrid import BlockGrid
from blockwise_predict.report.status import Condition, RunStatus, read_moment, run_status
from blockwise_predict.report.trace import Trace
from blockwise_predict.report.workers import Worker, block_hosts, workers_of


@dataclass(frozen=True)
class RunRecord:
    """A run's records at one moment.

    `made` are the records in the attributes of the output's arrays, empty where there is none.
    """

    run_dir: RunDir
    plan: Plan
    grid: BlockGrid
    trace: Trace
    status: RunStatus
    failures: dict[int, Failure]
    events: list[dict[str, Any]]
    workers: list[Worker]
    made: list[dict[str, Any]]
    precision: PrecisionChoice | None

    @property
    def running(self) -> bool:
        """Whether a scheduler is on."""
        return self.status.condition is Condition.RUNNING

    @property
    def block_hosts(self) -> list[str]:
        """Where each block was done, by number; empty if it is not recorded."""
        return block_hosts(self.workers, self.trace)


def read_run(run_dir: RunDir, plan: Plan) -> RunRecord:
    """Read the records of a run. Raises RunStateError for damaged ones."""
    # Before the blocks: a run that ends meanwhile is reported as running, not as stopped early.
    running = is_held(run_dir.path / "lock")
    moment = read_moment(run_dir, plan, running=running)
    return RunRecord(
        run_dir=run_dir,
        plan=plan,
        grid=BlockGrid(plan),
        trace=Trace.of(moment.records),
        status=run_status(run_dir, plan, moment),
        failures=run_dir.failures.read(),
        events=moment.events,
        workers=workers_of(moment.history),
        made=[_made(array.path) for array in plan.output.arrays],
        precision=_precision(plan, run_dir),
    )


def _made(path: str) -> dict[str, Any]:
    try:
        made = read_attributes(path).get(ATTRIBUTE)
    except ArrayError:
        return {}
    return made if isinstance(made, dict) else {}


def _precision(plan: Plan, run_dir: RunDir) -> PrecisionChoice | None:
    try:
        return find_precision(plan, run_dir)
    except (ArrayError, RunStateError):
        return None
