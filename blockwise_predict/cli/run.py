"""`predict run`."""

from __future__ import annotations

import os
import shlex
import signal
import sys

import click

from blockwise_predict.cli.options import run_options
from blockwise_predict.cli.terminal import RunDisplay
from blockwise_predict.config import RunConfig
from blockwise_predict.errors import PredictError
from blockwise_predict.run import Reporter, RunResult, execute
from blockwise_predict.scheduler import StopRequest

INTERRUPTED = 130
SHOWN_FAILURES = 20


@click.command(short_help="Predict a volume; the same command again resumes it.")
@run_options
def run(config: RunConfig) -> None:
    """Predict a volume, block by block; the same command again resumes.

    Options can also stand in a YAML file (keys as the options, with _ for -); options win.

    \b
    predict run --checkpoint dacapo/my_run --input volume.zarr/raw \\
                --output predictions.zarr/affs
    predict run --checkpoint dacapo/my_run --iteration 50000 \\
                --input s3://bucket/volume.zarr/raw --output predictions.n5/affs \\
                --roi "[20000:40000,0:30000,:]" --output-dtype uint8 --workers 4 \\
                --run-dir runs/affs
    predict run --checkpoint weights.pt --architecture arch.yaml \\
                --input raw.n5/volume --voxel-size 4.24,4,4 --output out.zarr/mito
    predict run config.yaml --workers 2

    Ctrl-C (or SIGTERM) lets the blocks in work finish; a second one stops at once. Exit codes: 0
    every voxel is predicted, 1 some blocks failed, 2 something given is wrong, 130 interrupted.
    """
    stop = StopRequest()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.request())
    command = shlex.join(["predict", *sys.argv[1:]])
    code = run_with_display(config, command, stop)
    # After an interruption daisy's server thread still waits in native code; nothing is left to
    # clean up, and the interpreter would wait for it or crash in it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_with_display(config: RunConfig, command: str, stop: StopRequest) -> int:
    """Run, showing progress and the outcome on stderr; returns the exit code."""
    display = RunDisplay()
    report = Reporter(display.line, display.warn, display.begin, display.progress)
    try:
        result = execute(config, command, report, stop)
    except PredictError as error:
        display.end()
        display.line(f"Error: {error}")
        return error.exit_code
    display.end()
    _show_result(result, display, command)
    if result.interrupted:
        return INTERRUPTED
    return 0 if result.complete else 1


def _show_result(result: RunResult, display: RunDisplay, command: str) -> None:
    counts, plan = result.counts, result.plan
    if plan.output.encoding.step is not None and counts.done:
        low, high = plan.output.encoding.value_range or (0.0, 0.0)
        display.line(
            f"{result.clipped_fraction:.2%} of the values were outside {low:g}..{high:g} "
            "and were clipped."
        )
    if result.nonfinite:
        display.warn(f"{result.nonfinite} output values are NaN or infinite.")
    if result.interrupted:
        display.line(
            f"Interrupted: {counts.done} of {counts.total} blocks are done. Resume with:\n"
            f"  {_resume_command(command)}"
        )
    elif result.complete:
        roi = plan.output_grid.world_bounds(plan.output.roi)
        display.line(f"Done: {plan.output.path} holds all {counts.total} blocks of {roi} nm.")
    else:
        _show_failures(result, display, command)


def _show_failures(result: RunResult, display: RunDisplay, command: str) -> None:
    failures = result.failures
    display.line(f"{len(failures)} of {result.counts.total} blocks failed:")
    for failure in failures[:SHOWN_FAILURES]:
        log = f" ({failure.log})" if failure.log else ""
        display.line(f"  {failure.roi}: {failure.error}{log}")
    if len(failures) > SHOWN_FAILURES:
        display.line(f"  and {len(failures) - SHOWN_FAILURES} more")
    first = next((failure for failure in failures if failure.traceback), None)
    if first is not None:
        display.line(f"The first one's traceback:\n{first.traceback}")
    display.line(f"Everything else is written. Try them again with:\n  {_resume_command(command)}")


def _resume_command(command: str) -> str:
    words = [word for word in shlex.split(command) if word != "--overwrite"]
    return shlex.join(words)
