"""The options of `predict run` and `predict plan`: one for each key of `RunConfig`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from blockwise_predict.config.model import OUTPUT_DTYPES, RunConfig, load_config

UNSAFE_LOAD_PICKLE = click.option(
    "--unsafe-load-pickle",
    is_flag=True,
    default=None,
    help="Open a checkpoint that runs code when opened. Only for files you made yourself.",
)
TRUST_RUN_DIR = click.option(
    "--trust-run-dir",
    is_flag=True,
    default=None,
    help="Use records that others own or can write to. Only if you trust them as yourself.",
)
_OPTIONS = [
    click.option(
        "--checkpoint",
        metavar="PATH",
        help="DaCapo run (BASE/RUN), iteration file, or weights (.pt, .pth, .safetensors).",
    ),
    click.option("--iteration", type=int, help="Iteration of a DaCapo run. [default: latest]"),
    click.option(
        "--architecture", metavar="YAML", help="Architecture of bare weights, see configs/."
    ),
    UNSAFE_LOAD_PICKLE,
    click.option("--input", metavar="ARRAY", help="For example volume.zarr/raw or volume.n5/raw."),
    click.option(
        "--voxel-size", metavar="Z,Y,X", help="In nm. [default: from the input's attributes]"
    ),
    click.option(
        "--offset",
        metavar="Z,Y,X",
        help="Begin of the input's first voxel in nm. [default: from the input's attributes]",
    ),
    click.option(
        "--border",
        type=click.Choice(["reflect", "edge", "constant", "valid"]),
        help="What stands beyond the volume's border (constant: 0); valid predicts only where the "
        "whole context exists. [default: reflect]",
    ),
    click.option(
        "--bad-input",
        type=click.Choice(["fail", "fill-missing", "fill", "skip"]),
        help="What becomes of a block whose input has chunks that are missing or damaged: fail; "
        "fill-missing takes the fill value for chunks that are not stored (some volumes leave out "
        "empty ones), fill also for damaged ones; skip leaves the block out. All but fail are "
        "recorded. [default: fail]",
    ),
    click.option(
        "--normalize",
        metavar="RULE",
        help="auto (uint8 / 255, uint16 / 65535, floats as they are), none, range:LOW,HIGH (to "
        "0..1), zscore:MEAN,STD. [default: auto]",
    ),
    click.option("--output", metavar="ARRAY", help="For example predictions.zarr/affs."),
    click.option(
        "--format",
        type=click.Choice(["zarr3", "zarr2", "n5"]),
        help="[default: by the output's name or container, else zarr3]",
    ),
    click.option(
        "--output-dtype", type=click.Choice(list(OUTPUT_DTYPES)), help="[default: float32]"
    ),
    click.option(
        "--output-range",
        metavar="LOW,HIGH",
        help="Values that an integer dtype spans. [default: 0,1 after a sigmoid]",
    ),
    click.option(
        "--chunk-shape",
        metavar="Z,Y,X",
        help="Chunks of the output, voxels. Those larger than the ROI are kept, for a ROI that is "
        "to be extended later, and stored with zeros beyond it. [default: 64,64,64 or the ROI]",
    ),
    click.option(
        "--roi",
        metavar="ROI",
        help="What to predict, in nm, half-open: [z0:z1,y0:y1,x0:x1]; bounds may be left out. "
        "[default: the whole input]",
    ),
    click.option(
        "--block-shape",
        metavar="Z,Y,X",
        help="Output voxels per block, the unit of retry and resume; a multiple of the chunks.",
    ),
    click.option(
        "--tile-shape",
        metavar="Z,Y,X",
        help="Input voxels of one pass. [default: what a block needs and memory affords]",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "mixed", "bfloat16", "float16", "tfloat32"]),
        help="auto takes what the device does fast if the run's first tile shows an error (rms) "
        "below half an output step, or 0.2 % of the values' span for floats; mixed is float32 at "
        "full resolution and bfloat16 below. [default: auto]",
    ),
    click.option(
        "--memory",
        metavar="SIZE",
        help="What one worker may use, for example 8GiB. [default: half of what is free]",
    ),
    click.option(
        "--fleet",
        metavar="KIND",
        help="Who starts the workers: local (this machine), slurm, lsf, a job script of yours "
        "(my.sbatch, my.bsub; see predict workers), or a command that starts one worker per call, "
        "for example 'ssh gpu{number}'. [default: local]",
    ),
    click.option(
        "--workers",
        type=int,
        help="Workers to keep running; 0: they are added by hand. [default: 1]",
    ),
    click.option("--queue", metavar="NAME", help="Partition (Slurm) or queue (LSF) of the jobs."),
    click.option("--project", metavar="NAME", help="Account (Slurm) or project (LSF) of the jobs."),
    click.option("--gpus", type=int, help="GPUs of each job; 0: none. [default: the script's]"),
    click.option("--cores", type=int, help="Cores of each job. [default: the script's]"),
    click.option(
        "--job-memory", metavar="SIZE", help="Memory of each job. [default: the script's]"
    ),
    click.option(
        "--wall-time",
        metavar="TIME",
        help="Time limit of each job: 12h, 1d12h, 08:30:00. Jobs that reach it are replaced. "
        "[default: the script's]",
    ),
    click.option(
        "--throttle", type=int, help="Of the jobs, let so many run at once. [default: all]"
    ),
    click.option(
        "--submit-options",
        metavar="WORDS",
        help="Further options of sbatch or bsub, for example '--constraint=a100 --nice'.",
    ),
    click.option(
        "--listen",
        metavar="ADDRESS[:PORT]",
        help="Where workers reach the scheduler. [default: this machine alone for local workers, "
        "else any address and any free port]",
    ),
    click.option(
        "--slots",
        type=int,
        help="Blocks that a worker reads, computes and writes side by side. [default: 2]",
    ),
    click.option(
        "--device", metavar="NAME", help="auto, cpu, cuda or cuda:N. [default: auto: a GPU if any]"
    ),
    click.option(
        "--retries", type=int, help="Further attempts at a block that failed. [default: 2]"
    ),
    click.option(
        "--block-timeout",
        type=float,
        metavar="SECONDS",
        help="A block that takes longer ends its worker and is tried again. [default: 3600]",
    ),
    click.option(
        "--run-dir",
        metavar="FOLDER",
        help="Where the run's records go. [default: beside the output's container]",
    ),
    TRUST_RUN_DIR,
    click.option(
        "--overwrite",
        is_flag=True,
        default=None,
        help="Start afresh: delete the output array and what is recorded of its run.",
    ),
]


def run_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument CONFIG and every option, and pass it one `config`.

    Options of the command's own are passed on.
    """

    def command(config: str | None, **options: Any) -> None:
        own = {key: options.pop(key) for key in [*options] if key not in RunConfig.model_fields}
        function(load_config(options, config), **own)

    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.argument("config", required=False, metavar="[CONFIG.yaml]")(command)
