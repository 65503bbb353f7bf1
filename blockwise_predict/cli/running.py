"""Running, from a configuration to an exit code; used by `predict run` and `predict demo`."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from blockwise_predict.cli.console import drain_messages, step
from blockwise_predict.cli.terminal import RunDisplay
from blockwise_predict.cli.verbosity import Verbosity
from blockwise_predict.config.model import RunConfig
from blockwise_predict.errors import PredictError
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.records.status import Counts
from blockwise_predict.run.api import run
from blockwise_predict.run.planned import plan_run
from blockwise_predict.run.result import ArrayResult, RunResult, what_filled_blocks_hold
from blockwise_predict.run.stop import StopRequest

INTERRUPTED = 130
TERM_GRACE_S = 12.0
SHOWN_FAILURES = 20
SHOWN_WORKERS = 8
SHOWN_ROIS = 5


def run_with_display(
    config: RunConfig,
    command: str,
    *,
    only_failed: bool = False,
    verbosity: Verbosity = Verbosity.NORMAL,
) -> int:
    """Run, with progress and the outcome on stderr; returns the exit code.

    With `only_failed`, only blocks that failed before are tried again. SIGINT, SIGTERM, SIGURG and
    SIGHUP stop the run. `command` is what the user is told to type to resume it.
    """
    with ExitStack() as at_end:
        display = _StoppableDisplay(StopRequest(), verbosity, at_end)
        code = _run(config, command, display, only_failed=only_failed)
    drain_messages()
    return code


def _run(config: RunConfig, command: str, display: _StoppableDisplay, *, only_failed: bool) -> int:
    try:
        with step("Planning", display.verbosity):
            planned = plan_run(config)
        with ExitStack() as at_end:
            # Whatever happens: a terminal must not be left without a cursor.
            at_end.callback(display.end)
            result = run(
                planned,
                only_failed=only_failed,
                progress=display,
                stop=display.stop,
                command=command,
            )
    except KeyboardInterrupt:
        display.outcome("Interrupted before the first block was begun.")
        return INTERRUPTED
    except PredictError as error:
        display.outcome(f"Error: {error}")
        return error.exit_code
    _show_result(result, display, command)
    if result.interrupted:
        return INTERRUPTED
    return 0 if result.complete else 1


class _StoppableDisplay(RunDisplay):
    """Shows a run, which signals stop once it has begun, and until `at_end` is closed; before and
    after, there is nothing to end."""

    def __init__(self, stop: StopRequest, verbosity: Verbosity, at_end: ExitStack) -> None:
        super().__init__(verbosity)
        self.stop = stop
        self._at_end = at_end

    def begin(self, plan: Plan, counts: Counts) -> None:
        """The run begins, or resumes, with these counts."""
        self._at_end.enter_context(stopped_by_signals(self.stop))
        super().begin(plan, counts)


@contextmanager
def stopped_by_signals(stop: StopRequest) -> Iterator[None]:
    """Have SIGINT, SIGTERM, SIGURG and SIGHUP stop what can be resumed, in this context."""

    def soon(*_: object) -> None:
        stop.request(TERM_GRACE_S)

    def hung_up(*_: object) -> None:
        # The system and a shell may both send it: that is not a second request.
        if not stop.times:
            soon()

    handlers: dict[signal.Signals, Callable[..., None]] = {
        signal.SIGINT: lambda *_: stop.request(),
        # Systems and clusters that send these do not wait for long. SIGURG is LSF's warning of a
        # limit.
        signal.SIGTERM: soon,
        signal.SIGURG: soon,
    }
    # A closed terminal or a lost ssh session; ignored if started with nohup.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = hung_up
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish_process(code: int) -> NoReturn:
    """Exit at once after a run, when nothing is left to clean up.

    An orderly shutdown of torch and its threads would take another second.
    """
    drain_messages()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _show_result(result: RunResult, display: RunDisplay, command: str) -> None:
    plan = result.plan
    if result.done:
        display.line(f"Precision {result.precision}.")
    if result.busy:
        display.line(f"{_busy_text(result.busy)} of the time after the first block.")
    for array, counts in zip(plan.output.arrays, result.arrays, strict=True):
        _show_counts(array, counts, display, any_done=result.done > 0)
    _show_bad_input(result, display)
    if result.empty:
        display.line(f"{result.empty} blocks are left out: their input is empty.")
    if result.masked_out:
        display.line(f"{result.masked_out} blocks are left out: the mask has no foreground there.")
    if result.outside:
        display.line(f"{result.outside} blocks are left out: they are outside the ROIs.")
    if result.interrupted:
        display.outcome(
            f"Interrupted: {result.done} of {plan.num_blocks} blocks are done. Resume with:\n"
            f"  {_resume_command(command)}"
        )
    elif result.complete:
        roi = f"{plan.output_grid.world_bounds(plan.output.roi)} {plan.output_grid.units}"
        what = f"{result.done} blocks of"
        if result.done == plan.num_blocks:
            what = "all of" if plan.num_blocks == 1 else f"all {what}"
        display.outcome(f"Done: {plan.output.path} holds {what} {roi}.")
    else:
        _show_failures(result, display, command)


def _show_counts(
    array: ArrayPlan, counts: ArrayResult, display: RunDisplay, *, any_done: bool
) -> None:
    """Say how many values of an array were clipped, and warn of what is not finite."""
    whose = f"{array.name}: " if array.name else ""
    clipped = f"{whose}{counts.clipped_fraction:.2%} of the values were"
    if array.value_range is not None and any_done:
        low, high = array.value_range
        display.line(f"{clipped} outside {low:g}..{high:g} and were clipped.")
    elif counts.clipped:
        display.warn(f"{clipped} too large for {array.dtype} and were clipped.")
    if counts.nonfinite:
        what = "are" if array.decision is None else "come from values that are"
        display.warn(f"{whose}{counts.nonfinite} output values {what} NaN or infinite.")


def _show_bad_input(result: RunResult, display: RunDisplay) -> None:
    """Warn of blocks whose missing input was filled, and of those left out because of it."""
    left_out = "are left out, since their input could not be read"
    for rois, what in (
        (result.filled, what_filled_blocks_hold(result.plan)),
        (result.skipped, left_out),
    ):
        if rois:
            shown = ", ".join(rois[:SHOWN_ROIS]) + (", ..." if len(rois) > SHOWN_ROIS else "")
            units = result.plan.output_grid.units
            of_all = f"{len(rois)} of {result.plan.num_blocks} blocks"
            display.warn(f"{of_all} {what}: {shown} {units}.")


def _busy_text(busy: dict[int, float]) -> str:
    """The share of the time that each worker's device computed; of many workers, the lowest."""
    by_share = sorted(busy, key=lambda worker: busy[worker])
    shown = sorted(by_share[:SHOWN_WORKERS])
    shares = ", ".join(f"worker {worker} {busy[worker]:.0%}" for worker in shown)
    if len(busy) > len(shown):
        shares = f"{sum(busy.values()) / len(busy):.0%} on average, lowest {shares}"
    return f"Devices computed: {shares}"


def _show_failures(result: RunResult, display: RunDisplay, command: str) -> None:
    failures = result.failures
    if not failures:
        # `predict retry` does not do these.
        to_do = f"{result.left} of {result.plan.num_blocks} blocks are still to do"
        display.outcome(f"{to_do}: `predict run` with the same options goes on with them.")
        return
    display.outcome(f"{len(failures)} of {result.plan.num_blocks} blocks failed:")
    for failure in failures[:SHOWN_FAILURES]:
        log = f" ({failure.log})" if failure.log else ""
        display.outcome(f"  {failure.roi}: {failure.error}{log}")
    if len(failures) > SHOWN_FAILURES:
        display.outcome(f"  and {len(failures) - SHOWN_FAILURES} more")
    first = next((failure for failure in failures if failure.traceback), None)
    if first is not None:
        display.line(f"The first one's traceback:\n{first.traceback}")
    others = "Everything else is written"
    if left := result.left:
        others = f"{left} more blocks are still to do; everything else is written"
    display.outcome(f"{others}. Try again with:\n  {_resume_command(command)}")


def _resume_command(command: str) -> str:
    words = [word for word in shlex.split(command) if word != "--overwrite"]
    return shlex.join(words)
