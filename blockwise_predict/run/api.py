"""Planning and executing a run from Python."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockwise_predict.config.consent import recorded_command
from blockwise_predict.config.model import load_config, load_value
from blockwise_predict.io import InputArray, path_of
from blockwise_predict.run.models import Models, given_models
from blockwise_predict.run.observation.observed import execute_observed
from blockwise_predict.run.planned import PlannedRun, plan_run
from blockwise_predict.run.progress import ProgressBar
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.result import RunResult
from blockwise_predict.run.stop import StopRequest

if TYPE_CHECKING:
    import zarr


def plan(
    model: Models,
    array: str | Path | zarr.Group | InputArray,
    output: str | Path,
    **options: Any,
) -> PlannedRun:
    """Plan a run, as `predict plan` does; nothing is written.

    model: a checkpoint's path, or the result of `open_checkpoint`; a list of them for the mean of
        their predictions.
    array: the input's path, a zarr Group with several levels, or the result of `open_array`.
    output: path of the array to write, for example `predictions.zarr/affs`.
    options: the keys of a configuration file (docs/reference.md), for example
        `roi="[0:1000,:,:]", output_dtype="uint8", workers=2`.

    Raises a ConfigError that lists all invalid options, and other InputErrors if something cannot
    be opened or does not fit.
    """
    checkpoint, opened_models = given_models(model)
    opened_array = array if isinstance(array, InputArray) else None
    source = array.options if isinstance(array, InputArray) else {"input": str(path_of(array))}
    given = {
        **checkpoint,
        **source,
        "output": str(output),
        **options,
    }
    config = load_config(given, command_line=False)
    return plan_run(config, models=opened_models, array=opened_array)


def run(
    plan: PlannedRun,
    *,
    workers: int | None = None,
    only_failed: bool = False,
    progress: bool | Reporter = True,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> RunResult:
    """Execute a planned run, or resume it; returns when every block is done or has failed.

    Works in any thread and inside a running event loop; installs no signal handlers.

    workers: number of workers, instead of the plan's; block and tile sizes are planned again for
        that number.
    only_failed: whether to try only blocks that failed before, as `predict retry` does.
    progress: whether to show a progress bar on stderr; or a Reporter of your own.
    stop: calling `stop.request()` from any thread drains the run: workers finish the blocks that
        they hold. A second request stops at once. The result then is `interrupted`, and the run can
        be resumed, as after a KeyboardInterrupt.
    command: what the records name as the command, but for the options that are not recorded; by
        default one that runs the recorded configuration.

    Failed blocks raise no error: see `complete` and `failures` of the result. Raises InputError
    before anything is written if something does not fit, and RunFailedError if the run has to stop
    early.
    """
    if workers is not None:
        count = load_value("workers", workers, command_line=False)
        config = plan.plan.config.model_copy(update={"workers": count, "overwrite": plan.overwrite})
        plan = plan_run(config, models=plan.opened.models, array=plan.opened.array)
    if command is None:
        file, consent = plan.run_dir.path / "config.yaml", plan.plan.config.consent_options
        command = shlex.join(["predict", "run", str(file), *consent])
    command = recorded_command(command)
    with ExitStack() as context:
        if progress is True:
            progress = context.enter_context(ProgressBar("Predicting"))
        report = progress or Reporter()
        return execute_observed(
            plan, command, report=report, stop=stop or StopRequest(), only_failed=only_failed
        )
