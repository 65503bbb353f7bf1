"""Fleets: they start, watch, replace and finally end the worker processes of a run."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blockwise_predict import __version__
from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.resources import resource_folder
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

__all__ = ["cancel_leftovers", "check_fleet", "describe_fleet", "make_fleet", "wanted_jobs"]

# What two runs must agree in for the second to take over the first one's jobs.
_TERMS = (
    *("fleet", "queue", "project", "gpus", "cores", "job_memory", "wall_time", "throttle"),
    *("submit_options", "slots", "device"),
)
_SCRIPTS = {"slurm": "slurm.sbatch", "lsf": "lsf.bsub"}


def check_fleet(config: RunConfig, run_dir: RunDir, warn: Callable[[str], None]) -> None:
    """Raise ConfigError if the workers could not be started, as far as that can be known."""
    if config.fleet_kind == "command":
        check_command(config.fleet)
    if config.fleet_kind not in QUEUES:
        return
    queue = QUEUES[config.fleet_kind](CommandRunner())
    request = _request(config, run_dir, "predict-check")
    if not request.script.is_file():
        raise ConfigError(
            f"--fleet {config.fleet}: there is no such file. `predict workers copy "
            f"{config.fleet_kind} .` gives a job script to start from."
        )
    check_time_limit(queue.time_limit(request), warn)
    require_commands(queue)
    try:
        against = queue.check(request)
    except QueueError as error:
        raise ConfigError(
            f"{queue.name} would not take the jobs of {request.script}:\n{error}"
        ) from None
    if against is not None:
        warn(
            f"{queue.name} could not run the jobs of {request.script} now: {against}\nThey will "
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
    record.begin(kind, request.name, wanted_jobs(config) or {})
    return ClusterFleet(QUEUES[kind], request, record, warn)


def describe_fleet(config: RunConfig, run_dir: RunDir) -> str:
    """Who starts the workers, for the user."""
    kind = config.fleet_kind
    if kind in QUEUES:
        queue = QUEUES[kind](CommandRunner())
        command = shlex.join(queue.command(_request(config, run_dir, "predict-...")))
        return f"{config.workers} as jobs of {queue.name}: {command}"
    where = "on this machine" if kind == "local" else f"each by: {config.fleet}"
    return f"{config.workers} {where}"


def wanted_jobs(config: RunConfig) -> dict[str, Any] | None:
    """How a configuration wants its jobs, as it is recorded; None if it wants none."""
    if config.fleet_kind not in QUEUES:
        return None
    return {
        **config.model_dump(mode="json", include=set(_TERMS)),
        "script": hashlib.sha256(_script(config).read_bytes()).hexdigest(),
        "python": sys.executable,
        "consent": config.consent_options,
        "version": __version__,
    }


def _script(config: RunConfig) -> Path:
    """The job script of a configuration: one that is shipped, or the user's own."""
    kind = config.fleet_kind
    return (
        resource_folder("workers") / _SCRIPTS[kind] if config.fleet == kind else Path(config.fleet)
    )


def _request(config: RunConfig, run_dir: RunDir, name: str) -> Request:
    return Request(
        script=_script(config),
        name=name,
        # As many as one job array holds.
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
