"""The result of a run, summed up from its records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
# What the record's entries about blocks begin with.
_OF_BLOCKS = ("filled_", "skipped_", "masked_out_", "empty_", "rois", "outside_")


@dataclass(frozen=True)
class ArrayResult:
    """The number of `values` in an array's predicted blocks, of which `clipped` were outside its
    range, and `nonfinite` are NaN or infinite."""

    values: int
    clipped: int
    nonfinite: int

    @property
    def clipped_fraction(self) -> float:
        """Share of the values that were outside the range."""
        return self.clipped / self.values if self.values else 0.0


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    done: number of predicted blocks, from this run and earlier ones.
    filled: ROIs (nm; time in the unit of the data) of the predicted blocks with the fill value for
        unreadable input.
    skipped: ROIs (nm) of the blocks that were left out because of their input.
    empty: number of the blocks that were left out since their input is nothing but the fill value.
    masked_out: number of the blocks that were left out because of the mask.
    outside: number of the blocks that were left out since none of the ROIs touches them.
    failures: the blocks that used up their attempts.
    interrupted: whether it was asked to stop before all blocks were finished.
    arrays: counts of values for each array of the output.
    precision: what the network computed in.
    busy: share of the time that each worker's device was computing, by the worker's number; only
        for workers that did at least two blocks.
    seconds: duration of the run.
    """

    plan: Plan
    done: int
    filled: tuple[str, ...]
    skipped: tuple[str, ...]
    empty: int
    masked_out: int
    outside: int
    failures: tuple[Failure, ...]
    interrupted: bool
    arrays: tuple[ArrayResult, ...]
    precision: PrecisionChoice
    busy: dict[int, float]
    seconds: float

    @property
    def clipped_fraction(self) -> float:
        """Share of the values that were outside the output's range."""
        values = sum(array.values for array in self.arrays)
        return sum(array.clipped for array in self.arrays) / values if values else 0.0

    @property
    def nonfinite(self) -> int:
        """Number of values that are NaN or infinite."""
        return sum(array.nonfinite for array in self.arrays)

    @property
    def complete(self) -> bool:
        """Whether every block is predicted or left out."""
        return not self.left and not self.failures

    @property
    def left(self) -> int:
        """Number of blocks that are still to do."""
        left_out = len(self.skipped) + self.empty + self.masked_out + self.outside
        return self.plan.num_blocks - self.done - left_out - len(self.failures)


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
    predicted = np.isin(ledger.states, PREDICTED).reshape(plan.blocks_per_axis)
    voxels = int(plan.block_voxels[predicted].sum())
    arrays = plan.output.arrays
    result = RunResult(
        plan=plan,
        done=done,
        filled=_rois(plan, ledger.blocks(State.FILLED)),
        skipped=_rois(plan, ledger.blocks(State.SKIPPED)),
        empty=ledger.count(State.EMPTY),
        masked_out=ledger.count(State.MASKED),
        outside=ledger.count(State.OUTSIDE),
        failures=tuple(recorded.get(b) or _failure_without_record(plan, b) for b in failed),
        interrupted=outcome is not None and outcome.interrupted,
        arrays=tuple(
            ArrayResult(len(array.stored_names) * voxels, *counts)
            for array, counts in zip(arrays, ledger.totals(), strict=True)
        ),
        precision=find_precision(plan, run_dir) or PrecisionChoice(plan.precision),
        busy={} if outcome is None else outcome.busy,
        seconds=0.0 if outcome is None else outcome.seconds,
    )
    for array, counts in zip(arrays, result.arrays, strict=True):
        _record_end(array.path, plan, result, counts)
    return result


def _record_end(path: str, plan: Plan, result: RunResult, counts: ArrayResult) -> None:
    """Record the end of a run in the attributes of one of its arrays."""
    record = read_attributes(path).get(ATTRIBUTE)
    end = ending(
        complete=result.complete,
        values=counts.values,
        clipped=counts.clipped,
        nonfinite=counts.nonfinite,
        precision=result.precision,
    )
    begun = record if isinstance(record, dict) else {}
    # What an earlier end recorded of blocks that have been done since is no longer true.
    kept = {key: value for key, value in begun.items() if not key.startswith(_OF_BLOCKS)}
    update_attributes(path, {ATTRIBUTE: {**kept, **end, **_special_blocks(plan, result)}})


def _special_blocks(plan: Plan, result: RunResult) -> dict[str, Any]:
    """Which blocks hold something else than a prediction of the input, or nothing."""
    found: dict[str, Any] = {}
    for name, rois in (("filled", result.filled), ("skipped", result.skipped)):
        if rois:
            found[f"{name}_blocks"] = len(rois)
            key = f"{name}_rois" if plan.output_grid.has_time else f"{name}_rois_nm"
            found[key] = list(rois[:MAX_LISTED_BLOCKS])
    if plan.config.mask is not None:
        found |= {"masked_out_by": plan.config.mask, "masked_out_blocks": result.masked_out}
    if plan.config.rois is not None:
        found |= {"rois": [str(roi) for roi in plan.config.rois], "outside_blocks": result.outside}
    if plan.config.skip_empty:
        found["empty_blocks"] = result.empty
    return found


def what_filled_blocks_hold(plan: Plan) -> str:
    """What to tell the user of blocks with the fill value for chunks of the input."""
    missing = "not stored or damaged" if plan.config.bad_input == "fill" else "not stored"
    return f"hold values predicted from the fill value, where chunks of the input are {missing}"


def _failure_without_record(plan: Plan, block: int) -> Failure:
    """The failure of a block whose error was not recorded, or was lost with its record."""
    (roi,) = _rois(plan, [block])
    return Failure(block, roi, 0, "its error is not recorded", "", None)


def _rois(plan: Plan, blocks: list[int]) -> tuple[str, ...]:
    return tuple(plan.where(block) for block in blocks)
