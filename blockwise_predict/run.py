"""A run from configuration to result: lock, resume or begin, schedule, sum up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from blockwise_predict.config import RunConfig
from blockwise_predict.errors import RunStateError
from blockwise_predict.fleet import LocalFleet
from blockwise_predict.io import (
    OutputSpec,
    create_output,
    delete_output,
    output_exists,
    read_attributes,
)
from blockwise_predict.plan import Plan
from blockwise_predict.planning import make_plan
from blockwise_predict.provenance import ATTRIBUTE, provenance
from blockwise_predict.result import RunResult, collect_result
from blockwise_predict.rundir import RunDir, default_run_dir
from blockwise_predict.scheduler import Counts, StopRequest, run_blocks


@dataclass(frozen=True)
class Reporter:
    """Where a run tells what it does."""

    line: Callable[[str], None]
    warn: Callable[[str], None]
    begin: Callable[[Plan, int], None]
    progress: Callable[[Counts], None]


def run_dir_of(config: RunConfig) -> RunDir:
    """The run directory of a configuration."""
    return RunDir(
        Path(config.run_dir).absolute() if config.run_dir else default_run_dir(config.output)
    )


def recorded_plan(config: RunConfig) -> Plan | None:
    """The plan that a run of this configuration would resume, if there is one."""
    run_dir = run_dir_of(config)
    return run_dir.plan() if run_dir.begun and not config.overwrite else None


def execute(config: RunConfig, command: str, report: Reporter, stop: StopRequest) -> RunResult:
    """Run, or resume, what the configuration says.

    Raises an InputError before anything is written if something does not fit, and RunFailedError
    when no worker can work.
    """
    run_dir = run_dir_of(config)
    plan, _ = make_plan(config, recorded_plan(config))
    for note in plan.notes:
        report.line(note)
    for warning in plan.warnings:
        report.warn(warning)
    began = time.time()
    with run_dir.lock():
        done = _prepare(plan, run_dir, command, report)
        report.begin(plan, done)
        if done == plan.num_blocks:
            return collect_result(plan, run_dir, began, Counts(done, done, 0, 0))
        fleet = LocalFleet(run_dir, config)
        outcome = run_blocks(plan, run_dir, fleet, report.progress, stop)
        # The server tells its counts now and then; what it has recorded is exact.
        counts = replace(outcome.counts, done=run_dir.done_blocks(), processing=0)
        return collect_result(plan, run_dir, began, counts, outcome.failed, outcome.interrupted)


def _prepare(plan: Plan, run_dir: RunDir, command: str, report: Reporter) -> int:
    """Bring run directory and output into the state to work from; returns the blocks done."""
    if plan.config.overwrite:
        _forget(plan, run_dir, report)
    if run_dir.begun:
        run_dir.check_identity(plan)
    else:
        if output_exists(plan.output.path):
            raise RunStateError(
                f"--output {plan.output.path} exists, and {run_dir} has no record of a run that "
                "made it. Give another name, or replace it with --overwrite."
            )
        run_dir.record(plan, command)
    done = run_dir.done_blocks()
    if not output_exists(plan.output.path):
        if done:
            raise RunStateError(
                f"{run_dir} records {done} finished blocks, but {plan.output.path} is gone. "
                "Put it back, or start afresh with --overwrite."
            )
        create_output(_output_spec(plan, command))
    return done


def _forget(plan: Plan, run_dir: RunDir, report: Reporter) -> None:
    if output_exists(plan.output.path):
        if ATTRIBUTE not in read_attributes(plan.output.path):
            raise RunStateError(
                f"--overwrite: {plan.output.path} was not made by predict run, and nothing else is "
                "replaced. Give another --output, or remove it yourself."
            )
        report.warn(f"--overwrite: deleting the array {plan.output.path}")
        delete_output(plan.output.path)
    if run_dir.begun:
        report.warn(
            f"--overwrite: forgetting {run_dir.done_blocks()} finished blocks, logs and events "
            f"in {run_dir}"
        )
        run_dir.clear()


def _output_spec(plan: Plan, command: str) -> OutputSpec:
    output, grid = plan.output, plan.output_grid
    return OutputSpec(
        path=output.path,
        format=output.format,
        shape=output.shape,
        channels=len(plan.network.channel_names),
        dtype=output.dtype,
        chunk_shape=output.chunk_shape,
        voxel_size=grid.voxel_size,
        offset=grid.world(output.roi_begin),
        input_voxel_size=plan.input.grid.voxel_size,
        axis_names=plan.input.axis_names,
        channel_names=plan.network.channel_names,
        attributes={ATTRIBUTE: provenance(plan, command)},
    )
