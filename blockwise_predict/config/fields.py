"""Every option of a run, declared once: type, default, limits, and what it means to the user.

The options of the command `predict`, the keys of its YAML files and docs/reference.md are made from
these fields.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from blockwise_predict.config.option import Group, option
from blockwise_predict.config.values import (
    BadInput,
    Border,
    Device,
    Factory,
    Fleet,
    Format,
    LengthsNm,
    Listen,
    Memory,
    Normalize,
    OutputDtype,
    PathText,
    Precision,
    Range,
    RoiNm,
    Shape,
    WallTime,
    Words,
)

MAX_WORKERS = 1024
MAX_JOBS = 1_000_000


class RunOptions(BaseModel):
    """What can be asked of a run. Shapes in voxels, lengths in nm, axes (z, y, x)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: PathText = option(
        ...,
        Group.CHECKPOINT,
        "DaCapo run (BASE/RUN), iteration, weights (.pt, .safetensors), TorchScript, .pt2, .onnx.",
        metavar="PATH",
        example="dacapo/my_run",
    )
    iteration: int | None = option(
        None, Group.CHECKPOINT, "Iteration of a DaCapo run.", unset="the latest", ge=0, lt=1 << 63
    )
    architecture: PathText | None = option(
        None,
        Group.CHECKPOINT,
        "Architecture of bare weights.",
        metavar="YAML",
        example="configs/architecture.yaml",
    )
    unsafe_load_pickle: bool = option(
        False,
        Group.CHECKPOINT,
        "Open a checkpoint that runs code when it is opened. Only for files you made yourself.",
        exclude=True,
    )

    factory: Factory | None = option(
        None,
        Group.CHECKPOINT,
        "Function that builds the network from the checkpoint's path; this executes its code.",
        metavar="MODULE:NAME",
        example="my_networks.py:build",
        exclude=True,
    )

    input: PathText = option(
        ...,
        Group.INPUT,
        "Array to predict from: container and name; a path or an s3://, gs:// or http(s):// URL.",
        metavar="ARRAY",
        example="volume.zarr/raw",
    )
    voxel_size: LengthsNm | None = option(
        None,
        Group.INPUT,
        "Size of the input's voxels in nm.",
        metavar="Z,Y,X",
        unset="from the input's attributes",
        example="4.24,4,4",
    )
    offset: LengthsNm | None = option(
        None,
        Group.INPUT,
        "Position in nm of the first voxel's lower corner.",
        metavar="Z,Y,X",
        unset="from the input's attributes",
    )
    border: Border = option(
        "reflect",
        Group.INPUT,
        "How the context is filled beyond the volume's border (constant: with 0); valid predicts "
        "only where the whole context exists.",
    )
    bad_input: BadInput = option(
        "fail",
        Group.INPUT,
        "What to do with a block whose input has missing or damaged chunks. fail: fail it; "
        "fill-missing: use the fill value for chunks that are not stored (some volumes leave out "
        "empty ones); fill: for damaged ones as well; skip: leave the block out. All but fail are "
        "recorded.",
    )
    normalize: Normalize = option(
        "auto",
        Group.INPUT,
        "auto (uint8 / 255, uint16 / 65535, floats as they are), none, range:LOW,HIGH (to 0..1), "
        "or zscore:MEAN,STD.",
        metavar="RULE",
        example="range:0,4095",
    )

    output: PathText = option(
        ...,
        Group.OUTPUT,
        "Array to write: container and name.",
        metavar="ARRAY",
        example="predictions.zarr/affs",
    )
    format: Format | None = option(
        None,
        Group.OUTPUT,
        "Storage format.",
        unset="by the output's name or container, else zarr3",
    )
    output_dtype: OutputDtype = option("float32", Group.OUTPUT, "Data type of the output.")
    output_range: Range | None = option(
        None,
        Group.OUTPUT,
        "Values that an integer data type spans; those outside are clipped.",
        metavar="LOW,HIGH",
        unset="0,1 after a sigmoid",
    )
    chunk_shape: Shape | None = option(
        None,
        Group.OUTPUT,
        "Chunks of the output in voxels. Chunks larger than the ROI keep their size, so that the "
        "ROI can be extended later, and hold zeros beyond it.",
        metavar="Z,Y,X",
        unset="64,64,64, or the ROI where that is smaller",
    )
    roi: RoiNm | None = option(
        None,
        Group.OUTPUT,
        "Region to predict in nm, half-open: [z0:z1,y0:y1,x0:x1]; bounds may be left out.",
        metavar="ROI",
        unset="the whole input",
        example="[20000:40000,:,10000:30000]",
    )

    block_shape: Shape | None = option(
        None,
        Group.COMPUTING,
        "Output voxels per block, the unit of retry and resume; a multiple of the chunks.",
        metavar="Z,Y,X",
        unset="from the network, the ROI and the memory",
    )
    tile_shape: Shape | None = option(
        None,
        Group.COMPUTING,
        "Input voxels of one forward pass.",
        metavar="Z,Y,X",
        unset="what a block needs and memory allows",
    )
    precision: Precision = option(
        "auto",
        Group.COMPUTING,
        "auto uses a precision that the device computes fast if its error (rms) on the run's first "
        "tile is below half an output step, or for floats below 0.2 % of the values' span; mixed "
        "is float32 at full resolution and bfloat16 below.",
    )
    memory: Memory | None = option(
        None,
        Group.COMPUTING,
        "Memory that one worker may use.",
        metavar="SIZE",
        unset="half of what is free",
        example="8GiB",
    )

    fleet: Fleet = option(
        "local",
        Group.WORKERS,
        "What starts the workers: local (this machine), slurm, lsf, your own job script "
        "(my.sbatch, my.bsub; see predict workers), or a command that starts one worker per call.",
        metavar="KIND",
        example="ssh gpu{number}",
    )
    workers: int = option(
        1,
        Group.WORKERS,
        "Number of workers to keep running; 0: you start them yourself with predict worker.",
        ge=0,
        le=MAX_WORKERS,
    )
    slots: int = option(
        2,
        Group.WORKERS,
        "Blocks that a worker reads, computes and writes concurrently.",
        ge=1,
        le=16,
    )
    device: Device = option(
        "auto",
        Group.WORKERS,
        "auto, cpu, cuda or cuda:N.",
        metavar="NAME",
        unset="auto, a GPU if there is one",
    )
    retries: int = option(
        2, Group.WORKERS, "Further attempts at a block that failed.", ge=0, le=100
    )
    block_timeout: float = option(
        3600.0,
        Group.WORKERS,
        "A worker that takes longer over a block is terminated, and the block retried.",
        metavar="SECONDS",
        ge=10,
        allow_inf_nan=False,
    )
    run_dir: PathText | None = option(
        None,
        Group.RUN,
        "Folder of the run's records.",
        metavar="FOLDER",
        unset="beside the output's container",
    )
    trust_run_dir: bool = option(
        False,
        Group.RUN,
        "Use records that others own or can write to. Only if you trust them as yourself.",
        exclude=True,
    )
    overwrite: bool = option(
        False, Group.RUN, "Start afresh: delete the output array and the records of its run."
    )

    queue: str | None = option(
        None,
        Group.CLUSTER,
        "Partition (Slurm) or queue (LSF).",
        metavar="NAME",
        unset="the script's",
        min_length=1,
    )
    project: str | None = option(
        None,
        Group.CLUSTER,
        "Account (Slurm) or project (LSF).",
        metavar="NAME",
        unset="the script's",
        min_length=1,
    )
    gpus: int | None = option(
        None, Group.CLUSTER, "GPUs of each job; 0: none.", unset="the script's", ge=0, le=64
    )
    cores: int | None = option(
        None, Group.CLUSTER, "Cores of each job.", unset="the script's", ge=1, le=1024
    )
    job_memory: Memory | None = option(
        None,
        Group.CLUSTER,
        "Memory of each job.",
        metavar="SIZE",
        unset="the script's",
        example="32GiB",
    )
    wall_time: WallTime | None = option(
        None,
        Group.CLUSTER,
        "Time limit of each job: 12h, 1d12h, 08:30:00. Jobs that reach it are replaced.",
        metavar="TIME",
        unset="the script's",
    )
    throttle: int | None = option(
        None, Group.CLUSTER, "Number of jobs that may run at once.", unset="all", ge=1, le=MAX_JOBS
    )
    submit_options: Words = option(
        (),
        Group.CLUSTER,
        "Further options of sbatch or bsub.",
        metavar="WORDS",
        example="--constraint=a100 --nice",
    )
    listen: Listen | None = option(
        None,
        Group.WORKERS,
        "Where workers reach the scheduler.",
        metavar="ADDRESS[:PORT]",
        unset="this machine alone for local workers, else any address and any free port",
        example="10.0.0.7:7077",
    )
