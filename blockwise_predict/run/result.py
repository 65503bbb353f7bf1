"""The result of a run, summed up from its records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.io import read_attributes, update_attributes
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.find import find_precision
from blockwise_predict.records.ledger import PREDICTED, Ledger, State
from blockwise_predict.records.provenance import ATTRIBUTE, ending
from blockwise_predict.run.supervision import Outcome

# Maximum number of filled or skipped blocks that are listed in the output's attributes.
MAX_LISTED_BLOCKS = 100


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    done: number of predicted blocks, from this run and earlier ones.
    filled: ROIs (nm; time in the unit of the data) of the predicted blocks with the fill value for
        unreadable input.
    skipped: ROIs (nm) of the blocks that were left out because of their input.
    failures: the blocks that used up their attempts.
    interrupted: whether it was asked to stop before all blocks were finished.
    clipped_fraction: share of the values that were outside the output's range.
    nonfinite: number of values that are NaN or infinite.
    precision: what the network computed in.
    busy: share of the time that each worker's device was computing, by the worker's number; only
        for workers that did at least two blocks.
    seconds: duration of the run.
    """

    plan: Plan
    done: int
    filled: tuple[str, ...]
    skipped: tuple[str, ...]
    failures: tuple[Failure, ...]
    interrupted: bool
    clipped_fraction: float
    nonfinite: int
    precision: PrecisionChoice
    busy: dict[int, float]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every block is predicted or skipped."""
        return self.done + len(self.skipped) == self.plan.num_blocks


def collect_result(
    plan: Plan,
    run_dir: RunDir,
    ledger: Ledger,
    outcome: Outcome | None = None,
) -> RunResult:
    """Sum up a run and record its end in the output's attributes.

    `outcome` is None if all blocks were finished before the run began.
    """
    failed = ledger.blocks(State.FAILED)
    recorded = run_dir.failures.read()
    done = ledger.count(*PREDICTED)
    clipped, nonfinite = ledger.totals()
    values = len(plan.network.channel_names) * predicted_voxels(plan, ledger)
    result = RunResult(
        plan=plan,
        done=done,
        filled=_rois(plan, ledger.blocks(State.FILLED)),
        skipped=_rois(plan, ledger.blocks(State.SKIPPED)),
        failures=tuple(recorded.get(b) or _failure_without_record(plan, b) for b in failed),
        interrupted=outcome is not None and outcome.interrupted,
        clipped_fraction=clipped / values if values else 0.0,
        nonfinite=nonfinite,
        precision=find_precision(plan, run_dir) or PrecisionChoice(plan.precision),
        busy={} if outcome is None else outcome.busy,
        seconds=0.0 if outcome is None else outcome.seconds,
    )
    record = read_attributes(plan.output.path).get(ATTRIBUTE)
    end = ending(
        complete=result.complete,
        values=values,
        clipped=clipped,
        nonfinite=nonfinite,
        precision=result.precision,
    )
    for name, rois in (("filled", result.filled), ("skipped", result.skipped)):
        if rois:
            end[f"{name}_blocks"] = len(rois)
            key = f"{name}_rois" if plan.output_grid.has_time else f"{name}_rois_nm"
            end[key] = list(rois[:MAX_LISTED_BLOCKS])
    update_attributes(
        plan.output.path, {ATTRIBUTE: {**(record if isinstance(record, dict) else {}), **end}}
    )
    return result


def predicted_voxels(plan: Plan, ledger: Ledger) -> int:
    """Number of voxels in the predicted blocks."""
    voxels = np.isin(ledger.states, PREDICTED).reshape(plan.blocks_per_axis).astype(np.int64)
    for size, block, count in zip(
        plan.output.shape[::-1], plan.block_shape[::-1], plan.blocks_per_axis[::-1], strict=True
    ):
        # The last block along an axis is cropped at the ROI's end.
        voxels = voxels @ np.minimum(block, size - block * np.arange(count))
    return int(voxels)


def _failure_without_record(plan: Plan, block: int) -> Failure:
    """The failure of a block whose error was not recorded, or was lost with its record."""
    (roi,) = _rois(plan, [block])
    return Failure(block, roi, 0, "its error is not recorded", "", None)


def _rois(plan: Plan, blocks: list[int]) -> tuple[str, ...]:
    return tuple(plan.output_grid.world_bounds(plan.numbered_block(block)) for block in blocks)
