"""The options of workers, of clusters and of the run's records; see `fields`."""

from __future__ import annotations

from blockwise_predict.config.mean_fields import MeanOptions
from blockwise_predict.config.option import Group, option
from blockwise_predict.config.values import (
    Device,
    Fleet,
    Listen,
    Memory,
    MetricsPort,
    PathText,
    WallTime,
    Words,
)

MAX_WORKERS = 1024
MAX_JOBS = 1_000_000


class RunOptions(MeanOptions):
    """What can be asked of a run."""

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
        False, Group.RUN, "Start afresh: delete the output and the records of its run."
    )
    metrics_port: MetricsPort | None = option(
        None,
        Group.RUN,
        "Serve metrics of the run for Prometheus, at http://ADDRESS:PORT/metrics, to this machine "
        "alone unless an address is given; 0: any free port.",
        metavar="[ADDRESS:]PORT",
        unset="none are served",
        example="9100",
        exclude=True,
    )
    notify: str | None = option(
        None,
        Group.RUN,
        "Command that is run when the run has finished, failed, was interrupted or stalls, with "
        "PREDICT_EVENT, PREDICT_MESSAGE, PREDICT_OUTPUT and more in its environment.",
        metavar="COMMAND",
        example='curl -d "$PREDICT_MESSAGE" ntfy.sh/my_runs',
        min_length=1,
        exclude=True,
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
        None,
        Group.CLUSTER,
        "Number of jobs that may run at the same time.",
        unset="all",
        ge=1,
        le=MAX_JOBS,
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
