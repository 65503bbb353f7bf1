"""A run that is planned and can be executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.config.model import RunConfig
from blockwise_predict.io import InputArray
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened
from blockwise_predict.records import RunDir, default_run_dir


@dataclass(frozen=True)
class PlannedRun:
    """A plan, what was opened to make it, and the run directory that its records go to.

    With `overwrite`, executing it replaces what an earlier run has written.
    """

    plan: Plan
    opened: Opened
    run_dir: RunDir
    overwrite: bool


def plan_run(
    config: RunConfig, *, model: TrainedModel | None = None, array: InputArray | None = None
) -> PlannedRun:
    """Plan the run of a configuration; what it names can be given as opened already.

    Paths of the configuration become absolute here. Nothing is written. Raises an InputError if
    something does not fit.
    """
    config = config.absolute()
    run_dir = run_dir_of(config)
    run_dir.check()
    recorded = run_dir.plan() if run_dir.begun and not config.overwrite else None
    made = make_plan(
        config.model_copy(update={"overwrite": False}), recorded, model=model, array=array
    )
    return PlannedRun(made.plan, made.opened, run_dir, config.overwrite)


def run_dir_of(config: RunConfig) -> RunDir:
    """The run directory of a configuration."""
    path = Path(config.run_dir).absolute() if config.run_dir else default_run_dir(config.output)
    return RunDir(path, trusted=config.trust_run_dir)
