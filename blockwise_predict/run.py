"""A run from configuration to result: lock, resume or begin, schedule, sum up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from funlib.geometry import Roi

from blockwise_predict.config import RunConfig
from blockwise_predict.engine.precision import PrecisionChoice
from blockwise_predict.errors import RunStateError
from blockwise_predict.fleet import LocalFleet
from blockwise_predict.io import (
    OutputSpec,
    create_output,
    delete_output,
    output_exists,
    read_attributes,
    update_attributes,
)
from blockwise_predict.plan import Plan
from blockwise_predict.planning import make_plan
from blockwise_predict.provenance import ATTRIBUTE, ending, provenance
from blockwise_predict.rundir import RunDir, default_run_dir
from blockwise_predict.scheduler import Counts, StopRequest, run_blocks


@dataclass(frozen=True)
class BlockFailure:
    """A block that used up its attempts: its ROI in nm, the last error and the log it is in."""

    roi: str
    error: str
    traceback: str
    log: Path | None


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    plan: Plan
    counts: Counts
    failures: tuple[BlockFailure, ...]
    interrupted: bool
    clipped_fraction: float
    nonfinite: int
    precision: PrecisionChoice

    @property
    def complete(self) -> bool:
        """Whether every voxel of the ROI is predicted."""
        return self.counts.done == self.counts.total


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
    with run_dir.lock():
        done = _prepare(plan, run_dir, command, report)
        report.begin(plan, done)
        if done == plan.num_blocks:
            return _result(plan, run_dir, Counts(done, done, 0, 0), (), interrupted=False)
        fleet = LocalFleet(run_dir, config)
        outcome = run_blocks(plan, run_dir, fleet, report.progress, stop)
        # The server tells its counts now and then; what it has recorded is exact.
        counts = replace(outcome.counts, done=run_dir.done_blocks(), processing=0)
        return _result(plan, run_dir, counts, outcome.failed, outcome.interrupted)


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


def _result(
    plan: Plan, run_dir: RunDir, counts: Counts, failed: tuple[Roi, ...], interrupted: bool
) -> RunResult:
    blocks, errors = _events_by_block(run_dir)
    failures = tuple(
        _failure(plan, run_dir, block, errors.get(tuple(block.begin))) for block in failed
    )
    values = sum(block["values"] for block in blocks.values())
    clipped = sum(block["clipped"] for block in blocks.values())
    nonfinite = sum(block["nonfinite"] for block in blocks.values())
    complete = counts.done == counts.total
    precision = run_dir.precision() or PrecisionChoice(plan.precision)
    record = read_attributes(plan.output.path)[ATTRIBUTE]
    update_attributes(
        plan.output.path,
        {ATTRIBUTE: {**record, **ending(complete, values, clipped, nonfinite, precision)}},
    )
    return RunResult(
        plan=plan,
        counts=counts,
        failures=failures,
        interrupted=interrupted,
        clipped_fraction=clipped / values if values else 0.0,
        nonfinite=nonfinite,
        precision=precision,
    )


def _events_by_block(
    run_dir: RunDir,
) -> tuple[dict[tuple[int, ...], dict[str, Any]], dict[tuple[int, ...], dict[str, Any]]]:
    """The last report and the last error of each block that has one."""
    blocks, errors = {}, {}
    for event in run_dir.read_events():
        if event["event"] == "block":
            blocks[tuple(event["begin"])] = event
        elif event["event"] == "error":
            errors[tuple(event["begin"])] = event
    return blocks, errors


def _failure(plan: Plan, run_dir: RunDir, block: Roi, event: dict[str, Any] | None) -> BlockFailure:
    roi = plan.output_grid.world_bounds(block)
    if event is None:
        error = "its worker died, or took longer than --block-timeout, at every attempt"
        return BlockFailure(roi, error, "", None)
    log = run_dir.log_file(event["worker"])
    return BlockFailure(roi, event["error"], event["traceback"], log)
