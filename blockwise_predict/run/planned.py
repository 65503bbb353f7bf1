"""A planned run: the plan, what it was made from, and its run directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.config.model import RunConfig
from blockwise_predict.io import BlockSource, check_output
from blockwise_predict.io.downsampled import check_levels
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.selection import Selection, select_blocks
from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.room import room_problem
from blockwise_predict.run.describe import Rows, describe_run


@dataclass(frozen=True, repr=False)
class PlannedRun:
    """A plan, what was opened to make it, and the run directory for its records.

    With `overwrite`, executing it first deletes what an earlier run has written. `selection` are
    the blocks to compute, None if these are all.
    """

    plan: Plan
    opened: Opened
    run_dir: RunDir
    overwrite: bool
    selection: Selection | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before the run is executed."""
        problem = room_problem(self.plan, self.run_dir)
        selection = () if self.selection is None else self.selection.warnings
        return (*self.plan.warnings, *selection, *([problem] if problem else []))

    @property
    def description(self) -> Rows:
        """Labels and values of what it will do and cost."""
        return describe_run(self.plan, self.opened, self.run_dir, self.selection)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user may want to know of how the input was understood."""
        return (*self.plan.notes, *(() if self.selection is None else self.selection.notes))

    def __repr__(self) -> str:
        rows = self.description
        width = max(len(label) for label, _ in rows) + 2
        lines = [f"{label:<{width}}{value}" for label, value in rows]
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        """The plan as a table, for notebooks."""
        rows = self.description
        cells = "".join(
            f"<tr><th style='text-align: left'>{escape(label)}</th>"
            f"<td style='text-align: left'>{escape(value)}</td></tr>"
            for label, value in rows
        )
        warnings = "".join(f"<p><b>Warning:</b> {escape(text)}</p>" for text in self.warnings)
        return f"<table>{cells}</table>{warnings}"


def plan_run(
    config: RunConfig,
    *,
    models: Sequence[TrainedModel] | None = None,
    array: BlockSource | None = None,
) -> PlannedRun:
    """Plan the run of a configuration; nothing is written.

    `models` and `array` are the configuration's checkpoints and input, if they are open already. In
    the plan, paths are absolute. Raises an InputError if something does not fit.
    """
    config = config.absolute()
    run_dir = run_dir_of(config)
    run_dir.check()
    recorded = run_dir.plan() if run_dir.begun and not config.overwrite else None
    made = make_plan(
        config.model_copy(update={"overwrite": False}), recorded, models=models, array=array
    )
    for output in made.plan.output.arrays:
        check_output(output.path, made.plan.output.format, output.dtype)
        if config.pyramid:
            check_levels(output.path, made.plan.output.format)
    selection = select_blocks(made.plan)
    return PlannedRun(made.plan, made.opened, run_dir, config.overwrite, selection)


def run_dir_of(config: RunConfig) -> RunDir:
    """The run directory of a configuration."""
    path = Path(config.run_dir).absolute() if config.run_dir else default_run_dir(config.output)
    return RunDir(path, trusted=config.trust_run_dir)
