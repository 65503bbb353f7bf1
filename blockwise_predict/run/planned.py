"""A planned run: the plan, what it was made from, and its run directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
from blockwise_predict.run.overview.collect import Subject, make_overview
from blockwise_predict.run.overview.document import Measured, Overview
from blockwise_predict.run.overview.geometry import halo_warnings, mask_warnings
from blockwise_predict.run.overview.page import as_html, as_text
from blockwise_predict.run.overview.writing import writing_of, writing_warnings


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
        return (*self.cautions, *([problem] if problem else []))

    @property
    def cautions(self) -> tuple[str, ...]:
        """The `warnings` of what does not keep the run from being executed."""
        selection = self.selection
        return (
            *self.plan.warnings,
            *(() if selection is None else selection.warnings),
            *halo_warnings(self.plan),
            *(() if selection is None else mask_warnings(self.plan, selection)),
            *writing_warnings(self.plan, self.subject.writing, begun=self._is_begun),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user may want to know of how the input was understood."""
        return (*self.plan.notes, *(() if self.selection is None else self.selection.notes))

    @cached_property
    def subject(self) -> Subject:
        """What an overview is made of."""
        computed = None if self.selection is None else self.selection.computed
        writing = writing_of(self.plan, computed)
        return Subject(self.plan, self.opened, self.run_dir, self.selection, writing)

    def overview(self, measured: Measured | None = None) -> Overview:
        """What it will do and cost, with what a probe has `measured`."""
        return make_overview(
            self.subject, notes=self.notes, warnings=self.warnings, measured=measured
        )

    @property
    def _is_begun(self) -> bool:
        """Whether a part of the output may be there already."""
        return self.run_dir.begun and not self.overwrite

    def __repr__(self) -> str:
        return as_text(self.overview())

    def _repr_html_(self) -> str:
        """The overview as tables, for notebooks."""
        return as_html(self.overview())


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
