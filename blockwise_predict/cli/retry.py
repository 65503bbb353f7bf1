"""`predict retry`."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import run_option
from blockwise_predict.cli.verbosity import Verbosity, verbosity_options


@click.command(short_help="Try the failed blocks of a run again, and only those.")
@click.argument("output", metavar="OUTPUT", type=PATH)
@run_option("run_dir")
@run_option("trust_run_dir")
@run_option("unsafe_load_pickle")
@run_option("factory")
@run_option("fleet", unset="local, slurm or lsf, as recorded")
@run_option("submit_options", unset="none")
@run_option("metrics_port")
@run_option("notify")
@verbosity_options
def retry(output: str, run_dir: str | None, verbosity: Verbosity, **given: Any) -> None:
    """Retry the blocks of OUTPUT that used up their attempts, with the options of its run.

    What the run was allowed to execute (your own job script or command, further options of sbatch
    or bsub, a checkpoint that runs code) is not taken from its records; allow it again here. The
    original `predict run` command also tries failed blocks again, and continues with all others.

    \b
    predict retry predictions.zarr/affs
    predict retry predictions.zarr/affs --fleet ./my.sbatch
    """
    from blockwise_predict.cli.console import step

    with step("Starting", verbosity):
        from blockwise_predict.cli.running import finish_process, run_with_display
    from blockwise_predict.records.find import find_run
    from blockwise_predict.run.retry import config_of_retry

    _, plan = find_run(output, run_dir, trust_run_dir=given["trust_run_dir"])
    command = shlex.join(["predict", *sys.argv[1:]])
    config = config_of_retry(plan.config, given)
    finish_process(run_with_display(config, command, only_failed=True, verbosity=verbosity))
