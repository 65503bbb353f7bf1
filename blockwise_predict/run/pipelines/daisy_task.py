"""A plan as one task of a daisy pipeline, upstream or downstream of other tasks."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import daisy

from blockwise_predict.run.pipelines.daisy_worker import work
from blockwise_predict.run.pipelines.grid import Unit, task_grid, task_rois
from blockwise_predict.run.pipelines.open_run import open_run
from blockwise_predict.run.planned import PlannedRun


def daisy_task(
    plan: PlannedRun,
    *,
    upstream_tasks: Sequence[Any] = (),
    task_id: str = "predict",
    unit: Unit = "nm",
) -> Any:
    """The `daisy.Task` of a plan, for `daisy.run_blockwise`, alone or with other tasks.

    Begins or resumes the run: creates its records and its output, and holds its lock until this
    process ends. Finished blocks are skipped. Of the plan's options, the task uses `workers`,
    `slots`, `device`, `retries` and `block_timeout`; daisy starts the workers, on this machine.

    upstream_tasks: the tasks that write the plan's input.
    task_id: unique in the pipeline.
    unit: what ROIs are in: `nm`, or `voxel`: output voxels, counted from where the input array
        begins. All tasks of the pipeline must use the same.

    Raises GeometryError if voxel size or offset are not integers in `unit`, ConfigError for a fleet
    other than local, and RunStateError if the records are of another run.
    """
    run = _without_input_sample(plan) if upstream_tasks else plan
    config = run.plan.config
    grid = task_grid(run.plan, unit)
    rois = task_rois(run.plan, grid)
    worker_pass, skip_mask = open_run(run, f"daisy_task in {shlex.join(sys.argv)}")
    with warnings.catch_warnings():
        # daisy prefers `upstream + task`, which a function that returns one task cannot use.
        warnings.simplefilter("ignore", DeprecationWarning)
        return daisy.Task(
            task_id,
            total_roi=rois.total,
            read_roi=rois.read,
            write_roi=rois.write,
            process_function=partial(work, worker_pass, grid),
            read_write_conflict=False,
            # "valid" would silently leave out the voxels that no whole block covers.
            fit="overhang",
            max_workers=config.planned_workers,
            max_retries=config.retries,
            timeout=config.block_timeout,
            # daisy's record of finished blocks knows neither model nor input; ours does, and gives
            # the skip mask.
            tracking_path=False,
            skip_mask=skip_mask,
            upstream_tasks=list(upstream_tasks),
        )


def _without_input_sample(run: PlannedRun) -> PlannedRun:
    """The same run, without the digests of an input that upstream tasks have yet to write."""
    source = run.plan.input.model_copy(update={"sample_sha256": {}})
    return replace(run, plan=run.plan.model_copy(update={"input": source}))
