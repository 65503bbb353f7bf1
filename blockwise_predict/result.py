"""How a run ended: what its workers recorded, summed up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funlib.geometry import Roi

from blockwise_predict.engine.precision import PrecisionChoice
from blockwise_predict.io import read_attributes, update_attributes
from blockwise_predict.plan import Plan
from blockwise_predict.provenance import ATTRIBUTE, ending
from blockwise_predict.rundir import RunDir
from blockwise_predict.scheduler import Counts

Event = dict[str, Any]


@dataclass(frozen=True)
class BlockFailure:
    """A block that used up its attempts: its ROI in nm, the last error and the log it is in."""

    roi: str
    error: str
    traceback: str
    log: Path | None


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    `busy` is, for each worker of two blocks or more, the share of the time that its device was
    computing.
    """

    plan: Plan
    counts: Counts
    failures: tuple[BlockFailure, ...]
    interrupted: bool
    clipped_fraction: float
    nonfinite: int
    precision: PrecisionChoice
    busy: dict[int, float]

    @property
    def complete(self) -> bool:
        """Whether every voxel of the ROI is predicted."""
        return self.counts.done == self.counts.total


def collect_result(
    plan: Plan,
    run_dir: RunDir,
    began: float,
    counts: Counts,
    failed: tuple[Roi, ...] = (),
    interrupted: bool = False,
) -> RunResult:
    """Sum up a run (which began at the time `began`), and record its end in the output."""
    events = list(run_dir.read_events())
    blocks, errors = _events_by_block(events)
    failures = tuple(
        _failure(plan, run_dir, block, errors.get(tuple(block.begin))) for block in failed
    )
    values = sum(block["values"] for block in blocks.values())
    clipped = sum(block["clipped"] for block in blocks.values())
    nonfinite = sum(block["nonfinite"] for block in blocks.values())
    complete = counts.done == counts.total
    precision = run_dir.precision() or PrecisionChoice(plan.precision)
    record = read_attributes(plan.output.path)[ATTRIBUTE]
    update_attributes(
        plan.output.path,
        {ATTRIBUTE: {**record, **ending(complete, values, clipped, nonfinite, precision)}},
    )
    return RunResult(
        plan=plan,
        counts=counts,
        failures=failures,
        interrupted=interrupted,
        clipped_fraction=clipped / values if values else 0.0,
        nonfinite=nonfinite,
        precision=precision,
        busy=busy_shares(events, began),
    )


def busy_shares(events: Iterable[Event], began: float) -> dict[int, float]:
    """How much of the time a worker's device computed, after its first block and to its last."""
    by_worker: dict[int, list[Event]] = {}
    for event in events:
        if event["event"] == "block" and event["time"] >= began:
            by_worker.setdefault(event["worker"], []).append(event)
    shares = {}
    for worker, blocks in by_worker.items():
        # Computed, that is; the last rows may still have been written then.
        first, last = (block["time"] - block["write"] for block in (blocks[0], blocks[-1]))
        if last > first:
            computed = sum(block["compute"] for block in blocks[1:])
            shares[worker] = min(1.0, computed / (last - first))
    return shares


def _events_by_block(
    events: Iterable[Event],
) -> tuple[dict[tuple[int, ...], Event], dict[tuple[int, ...], Event]]:
    """The last report and the last error of each block that has one."""
    blocks, errors = {}, {}
    for event in events:
        if event["event"] == "block":
            blocks[tuple(event["begin"])] = event
        elif event["event"] == "error":
            errors[tuple(event["begin"])] = event
    return blocks, errors


def _failure(plan: Plan, run_dir: RunDir, block: Roi, event: Event | None) -> BlockFailure:
    roi = plan.output_grid.world_bounds(block)
    if event is None:
        error = "its worker died, or took longer than --block-timeout, at every attempt"
        return BlockFailure(roi, error, "", None)
    log = run_dir.log_file(event["worker"])
    return BlockFailure(roi, event["error"], event["traceback"], log)
