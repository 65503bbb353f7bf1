"""Fleets: what starts, watches, replaces and finally terminates the workers of a run.

protocol        the interface of every fleet
processes       workers as child processes: on this machine, or through a command of the user's;
                worker_process holds one of them, commands builds their command lines
cluster         workers as jobs of a cluster; job_table tracks the jobs, job_failures counts those
                that ended early, jobs records them for the next run, queue_thread runs the commands
queue           the interface to a cluster's queue; slurm and lsf implement it with runner,
                timelimits checks the jobs' time limits
restarts        when a worker is replaced, and when that is hopeless (for both kinds of fleet)
log_tail        the end of a worker's log, for messages
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.resources import resource_folder
from blockwise_predict.config.version import __version__
from blockwise_predict.errors import ConfigError
from blockwise_predict.fleet.cluster import ClusterFleet
from blockwise_predict.fleet.commands import check_command
from blockwise_predict.fleet.jobs import QUEUES, JobRecord, cancel_leftovers
from blockwise_predict.fleet.processes import command_fleet, local_fleet
from blockwise_predict.fleet.protocol import Fleet
from blockwise_predict.fleet.queue import LARGEST_ARRAY, Request, require_commands
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.fleet.timelimits import check_time_limit
from blockwise_predict.records import RunDir

__all__ = ["cancel_leftovers", "check_fleet", "describe_fleet", "job_settings", "make_fleet"]

# Two runs must agree in these options for the second to take over the first one's jobs.
_JOB_OPTIONS = (
    *("fleet", "queue", "project", "gpus", "cores", "job_memory", "wall_time", "throttle"),
    *("submit_options", "slots", "device"),
)
_SCRIPTS = {"slurm": "slurm.sbatch", "lsf": "lsf.bsub"}


def check_fleet(config: RunConfig, run_dir: RunDir, warn: Callable[[str], None]) -> None:
    """Raise ConfigError if the workers could not be started, as far as can be known beforehand."""
    if config.fleet_kind == "command":
        check_command(config.fleet)
    if config.fleet_kind not in QUEUES:
        return
    queue = QUEUES[config.fleet_kind](CommandRunner())
    request = _request(config, run_dir, "predict-check")
    if not request.script.is_file():
        raise ConfigError(
            f"--fleet {config.fleet}: there is no such file. `predict workers copy "
            f"{config.fleet_kind} .` writes a job script to start from."
        )
    check_time_limit(queue.time_limit(request), warn)
    require_commands(queue)
    try:
        problem = queue.check(request)
    except QueueError as error:
        raise ConfigError(
            f"{queue.name} would not accept the jobs of {request.script}:\n{error}"
        ) from None
    if problem is not None:
        warn(
            f"{queue.name} could not run the jobs of {request.script} now: {problem}\nThey will "
            "wait. If no node is down, ask for less."
        )


def make_fleet(config: RunConfig, run_dir: RunDir, warn: Callable[[str], None]) -> Fleet:
    """The fleet that a configuration asks for."""
    kind = config.fleet_kind
    if kind == "local":
        return local_fleet(run_dir, config, warn)
    if kind == "command":
        return command_fleet(run_dir, config, warn)
    request = _request(config, run_dir, f"predict-{run_dir.run_id()[:8]}")
    record = JobRecord(run_dir)
    record.begin(kind, request.name, job_settings(config) or {})
    return ClusterFleet(QUEUES[kind], request, record, warn)


def describe_fleet(config: RunConfig, run_dir: RunDir) -> str:
    """How the workers are started, in words for the user."""
    kind = config.fleet_kind
    if kind in QUEUES:
        queue = QUEUES[kind](CommandRunner())
        command = shlex.join(queue.command(_request(config, run_dir, "predict-...")))
        return f"{config.workers} as jobs of {queue.name}: {command}"
    where = "on this machine" if kind == "local" else f"each by: {config.fleet}"
    return f"{config.workers} {where}"


def job_settings(config: RunConfig) -> dict[str, Any] | None:
    """The settings of a configuration's jobs, as they are recorded; None without a cluster."""
    if config.fleet_kind not in QUEUES:
        return None
    return {
        **config.model_dump(mode="json", include=set(_JOB_OPTIONS)),
        "script": hashlib.sha256(_script(config).read_bytes()).hexdigest(),
        "python": sys.executable,
        "consent": config.consent_options,
        "version": __version__,
    }


def _script(config: RunConfig) -> Path:
    """The job script of a configuration: a shipped one, or the user's own."""
    kind = config.fleet_kind
    return (
        resource_folder("workers") / _SCRIPTS[kind] if config.fleet == kind else Path(config.fleet)
    )


def _request(config: RunConfig, run_dir: RunDir, name: str) -> Request:
    return Request(
        script=_script(config),
        name=name,
        count=min(max(1, config.workers), LARGEST_ARRAY),
        logs=run_dir.logs,
        config=config,
        environment={
            "PREDICT_RUN_DIR": str(run_dir),
            "PREDICT_LOGS": str(run_dir.logs),
            "PREDICT_PYTHON": sys.executable,
            "PREDICT_CONSENT": shlex.join(config.consent_options),
        },
    )
