"""`--overwrite`: deleting what an earlier run wrote, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from blockwise_predict.errors import RunStateError
from blockwise_predict.io import check_deletable, delete_output, output_exists, read_attributes
from blockwise_predict.io.extend import aside
from blockwise_predict.io.kvstore import is_local
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import PREDICTED, LedgerDamagedError
from blockwise_predict.records.provenance import ATTRIBUTE
from blockwise_predict.run.reporter import Reporter

# Maximum number of names listed of files that are left in a folder.
MAX_LISTED = 10


def delete_earlier_run(plan: Plan, run_dir: RunDir, report: Reporter) -> None:
    """Delete what an earlier run has written; report what is deleted and what is left.

    Raises RunStateError if the output was not made by a run, or the run directory is of another.
    """
    _check_run_of(plan.output.path, run_dir)
    paths = [array.path for array in plan.output.arrays]
    for path in dict.fromkeys([*paths, *_recorded_arrays(run_dir)]):
        _delete_array(path, report)
    if run_dir.begun:
        recorded = _recorded_blocks(run_dir)
        report.warn(
            f"--overwrite: deleting the records of {recorded} finished blocks, logs and events in "
            f"{run_dir}"
        )
        _report_left(str(run_dir), run_dir.clear(), report)


def _delete_array(path: str, report: Reporter) -> None:
    """Delete an array of an earlier run, and what an interrupted extension has set aside."""
    if output_exists(path):
        if not made_by_run(path):
            raise RunStateError(
                f"--overwrite: {path} was not made by predict run, so it is not replaced. "
                "Give another --output, or remove it yourself."
            )
        check_deletable(path)
        report.warn(f"--overwrite: deleting the array {path}")
        _report_left(path, delete_output(path), report)
    before = aside(path) if is_local(path) else None
    if before is not None and output_exists(before) and made_by_run(str(before)):
        _report_left(str(before), delete_output(before), report)


def _recorded_arrays(run_dir: RunDir) -> list[str]:
    """Paths of the arrays of the recorded run; none if there is no record, or it is damaged."""
    try:
        return [a.path for a in run_dir.plan().output.arrays] if run_dir.begun else []
    except RunStateError:
        return []


def made_by_run(path: str) -> bool:
    """Whether an array's attributes record a run that made it."""
    return isinstance(read_attributes(path).get(ATTRIBUTE), dict)


def count_done(plan: Plan, run_dir: RunDir) -> int:
    """Number of blocks recorded as predicted. Raises RunStateError if the record is damaged."""
    try:
        with closing(run_dir.ledger(plan)) as ledger:
            return ledger.count(*PREDICTED)
    except LedgerDamagedError as error:
        raise RunStateError(
            f"{error} It records which blocks are done. Rebuild it from the chunks of the output:\n"
            f"  predict verify {plan.output.path} --repair"
        ) from None


def _check_run_of(path: str, run_dir: RunDir) -> None:
    """Raise RunStateError if a run directory belongs to another output's run."""
    try:
        other = run_dir.plan().output.path if run_dir.begun else path
    except RunStateError:
        # The record is damaged, and may well be of this output.
        return
    if other != path:
        raise RunStateError(
            f"--overwrite: {run_dir} holds the records of {other}, not of {path}. Name another "
            "folder with --run-dir."
        )


def _report_left(folder: str, left: Sequence[str], report: Reporter) -> None:
    if left:
        shown = ", ".join(left[:MAX_LISTED]) + (", ..." if len(left) > MAX_LISTED else "")
        report.warn(f"--overwrite: left in {folder}, since no run wrote it: {shown}")


def _recorded_blocks(run_dir: RunDir) -> int | str:
    """Number of finished blocks, or words for a number that cannot be read."""
    try:
        return count_done(run_dir.plan(), run_dir)
    except RunStateError:
        return "an unknown number of"
