"""How a run ended: what its ledger records, summed up."""

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

# Of blocks that are named in the output's attributes.
NAMED_BLOCKS = 100


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    `done`, `filled` and `skipped` are numbers of blocks: predicted, of which some with the fill
    value for input that could not be read, and left out on purpose. `failures` are the blocks that
    used up their attempts. `busy` is, for each worker of two blocks or more, the share of the time
    that its device was computing, `seconds` the run's duration.
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
        """Whether every block is predicted, or left out on purpose."""
        return self.done + len(self.skipped) == self.plan.num_blocks


def collect_result(
    plan: Plan,
    run_dir: RunDir,
    ledger: Ledger,
    outcome: Outcome | None = None,
) -> RunResult:
    """Sum up a run and record its end in the output; without `outcome`, nothing was left to do."""
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
        failures=tuple(recorded.get(b) or _unexplained(plan, b) for b in failed),
        interrupted=outcome is not None and outcome.interrupted,
        clipped_fraction=clipped / values if values else 0.0,
        nonfinite=nonfinite,
        precision=find_precision(plan, run_dir) or PrecisionChoice(plan.precision),
        busy={} if outcome is None else outcome.busy,
        seconds=0.0 if outcome is None else outcome.seconds,
    )
    record = read_attributes(plan.output.path).get(ATTRIBUTE)
    end = ending(result.complete, values, clipped, nonfinite, result.precision)
    for name, rois in (("filled", result.filled), ("skipped", result.skipped)):
        if rois:
            end[f"{name}_blocks"] = len(rois)
            end[f"{name}_rois_nm"] = list(rois[:NAMED_BLOCKS])
    update_attributes(
        plan.output.path, {ATTRIBUTE: {**(record if isinstance(record, dict) else {}), **end}}
    )
    return result


def predicted_voxels(plan: Plan, ledger: Ledger) -> int:
    """Voxels of the blocks that are predicted."""
    left = np.isin(ledger.states, PREDICTED).reshape(plan.blocks_per_axis).astype(np.int64)
    for size, block, count in zip(
        plan.output.shape[::-1], plan.block_shape[::-1], plan.blocks_per_axis[::-1], strict=True
    ):
        # The last block of an axis is cut at the ROI's end.
        left = left @ np.minimum(block, size - block * np.arange(count))
    return int(left)


def _unexplained(plan: Plan, block: int) -> Failure:
    """A failure whose record was lost."""
    (roi,) = _rois(plan, [block])
    return Failure(block, roi, 0, "its error is not recorded any more", "", None)


def _rois(plan: Plan, blocks: list[int]) -> tuple[str, ...]:
    return tuple(plan.output_grid.world_bounds(plan.numbered_block(block)) for block in blocks)
