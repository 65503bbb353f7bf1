"""Finds the records of the run that made an output."""

from __future__ import annotations

import os
from pathlib import Path

from blockwise_predict.engine.settings import PRECISION_BYTES, PrecisionChoice
from blockwise_predict.errors import RunStateError
from blockwise_predict.io import output_exists, read_attributes
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.location import default_run_dir
from blockwise_predict.records.provenance import ATTRIBUTE
from blockwise_predict.records.rundir import RunDir


def find_run(
    output: str,
    run_dir: str | None,
    *,
    trust_run_dir: bool = False,
    unsafe_load_pickle: bool = False,
    factory: str | None = None,
) -> tuple[RunDir, Plan]:
    """The run directory of the run that made an output, and its plan with this command's consent.

    `output` is the run's output or, of several arrays, one of them. Raises an InputError if there
    is no record of such a run, or none that can be trusted.
    """
    if run_dir is None and not _is_group_of_run(output):
        made = read_attributes(output).get(ATTRIBUTE)
        if not isinstance(made, dict):
            raise RunStateError(f"{output} has no record of being made by predict run.")
        config = made.get("config")
        named = config.get("run_dir") if isinstance(config, dict) else None
        run_dir = named if isinstance(named, str) and "\0" not in named else None
        name = made.get("output_name")
        if isinstance(name, str) and name and output.endswith(f"/{name}"):
            output = output.removesuffix(f"/{name}")
    path = Path(run_dir).absolute() if run_dir else default_run_dir(output)
    found = RunDir(path, trusted=trust_run_dir)
    if not found.begun:
        raise RunStateError(f"{found} holds no run of {output}. Say where it is with --run-dir.")
    return found, found.plan(unsafe_load_pickle=unsafe_load_pickle, factory=factory)


def _is_group_of_run(output: str) -> bool:
    """Whether there is a group, and the records of a run that made its arrays beside it."""
    if not os.path.isdir(output) or output_exists(output):
        return False
    return RunDir(default_run_dir(output)).begun


def find_precision(plan: Plan, run_dir: RunDir) -> PrecisionChoice | None:
    """The precision in which the blocks of a run were computed; None if it is not recorded.

    Looks into the run directory first, then into the output's attributes, where a run that has
    ended writes it as well. Raises RunStateError if the record in the run directory is damaged.
    """
    if plan.precision != "auto":
        return PrecisionChoice(plan.precision)
    if (choice := run_dir.precision()) is not None:
        return choice
    made = read_attributes(plan.output.arrays[0].path).get(ATTRIBUTE)
    recorded = made.get("precision") if isinstance(made, dict) else None
    name = recorded.get("precision") if isinstance(recorded, dict) else None
    return PrecisionChoice(name) if name in PRECISION_BYTES else None
