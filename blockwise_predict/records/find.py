"""What is recorded of the run that made an output, wherever it stands."""

from __future__ import annotations

from pathlib import Path

from blockwise_predict.engine.settings import PRECISION_BYTES, PrecisionChoice
from blockwise_predict.errors import RunStateError
from blockwise_predict.io import read_attributes
from blockwise_predict.plan import Plan
from blockwise_predict.provenance import ATTRIBUTE
from blockwise_predict.records.rundir import RunDir, default_run_dir


def find_run(output: str, run_dir: str | None) -> tuple[RunDir, Plan]:
    """The run that made an output. Raises an InputError if there is no record of one."""
    if run_dir is None:
        made = read_attributes(output).get(ATTRIBUTE)
        if not isinstance(made, dict):
            raise RunStateError(f"{output} was not made by predict run: it has no record of that.")
        run_dir = made.get("config", {}).get("run_dir")
    found = RunDir(Path(run_dir).absolute() if run_dir else default_run_dir(output))
    if not found.begun:
        raise RunStateError(f"{found} holds no run of {output}. Say where it is with --run-dir.")
    return found, found.plan()


def find_precision(plan: Plan, run_dir: RunDir) -> PrecisionChoice | None:
    """What the blocks of a run were computed in; None if that is not recorded.

    A run that has ended also says so in its output's attributes. Raises RunStateError if the record
    in the run directory is damaged.
    """
    if plan.precision != "auto":
        return PrecisionChoice(plan.precision)
    if (choice := run_dir.precision()) is not None:
        return choice
    made = read_attributes(plan.output.path).get(ATTRIBUTE)
    recorded = made.get("precision") if isinstance(made, dict) else None
    name = recorded.get("precision") if isinstance(recorded, dict) else None
    return PrecisionChoice(name) if name in PRECISION_BYTES else None
