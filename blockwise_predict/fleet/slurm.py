"""Slurm, from 22.05 on: sbatch(1), squeue(1), scancel(1)."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence

from blockwise_predict.fleet.queue import Job, Request, State, environment_without
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.fleet.timelimits import TimeLimit, last_option, script_words, slurm_seconds

# Any other state counts as waiting: suspended jobs, those whose nodes are booting, and states not
# known here, since to take a live job for dead would be the worse mistake.
_STATES = {
    **dict.fromkeys(("RUNNING", "RESIZING", "SIGNALING"), State.RUNNING),
    **dict.fromkeys(("COMPLETING", "STAGE_OUT"), State.ENDING),
    **dict.fromkeys(
        ("COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"),
        State.ENDED,
    ),
}
_BLAMELESS = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "CANCELLED", "REVOKED")
_HELD = ("REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
# Environment variables of the job that this process may run in, which its own jobs must not get;
# and user defaults that would hide jobs from us.
_REMOVED = ("SLURM_", "SQUEUE_", "SCANCEL_")
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
# Refusals of `sbatch --test-only` that may just mean that nodes are down or busy: jobs would wait.
_TEMPORARY = ("Requested node configuration is not available", "Requested nodes are busy")
# Each field with its own delimiter, which keeps squeue from truncating it.
_FIELDS = "JobArrayID:|,State:|,NodeList:|,Reason:|,exit_code:|"
# Default of --signal's time before the limit (seconds).
_SIGNAL_S = 60
# Maximum number of array elements on one command line.
CANCEL_BATCH = 500


class Slurm:
    """Slurm's queue; `run` runs its commands."""

    name = "Slurm"
    commands = ("sbatch", "squeue", "scancel")

    def __init__(self, run: CommandRunner) -> None:
        self._run = run

    def check(self, request: Request) -> str | None:
        """Have Slurm examine the request without submitting it."""
        if any(re.match(r"-M|--clusters", word) for word in request.config.submit_options):
            raise QueueError(
                "--submit-options: -M applies to sbatch only, so jobs could be neither watched nor "
                "cancelled. Choose the cluster with the environment variable SLURM_CLUSTERS."
            )
        try:
            self._run(["sbatch", "--test-only", *_options(request)], _environment(request))
        except QueueError as error:
            if any(reason in str(error) for reason in _TEMPORARY):
                return str(error)
            raise
        return None

    def time_limit(self, request: Request) -> TimeLimit | None:
        """The jobs' time limit and the warning before it; None unless both are requested."""
        config = request.config
        given, script = config.submit_options, script_words(request.script, "#SBATCH")
        # As in sbatch: the command line wins over the script, and --submit-options come last.
        wall = last_option(given, "--time", "-t") or config.wall_time
        wall = wall or last_option(script, "--time", "-t")
        sent = last_option(given, "--signal") or last_option(script, "--signal")
        seconds = slurm_seconds(wall or "")
        if wall is None or seconds is None or sent is None:
            return None
        name, _, before = sent.partition("@")
        warning = int(before) if before.isdecimal() else _SIGNAL_S
        remedy = f"--submit-options '--signal={name}@{max(1, seconds // 4)}'"
        words = f"--signal={sent}, see {request.script}"
        what = "--wall-time" if wall == config.wall_time else "--time"
        return TimeLimit(seconds, warning, f"{what} {wall}", words, remedy)

    def command(self, request: Request) -> list[str]:
        """The command that submits a request."""
        return ["sbatch", "--parsable", *_options(request)]

    def submit(self, request: Request) -> str:
        """Submit a job array; returns its id."""
        output = self._run(self.command(request), _environment(request))
        # `ID` or `ID;CLUSTER`; a site's own wrapper may print more.
        for line in reversed(output.splitlines()):
            if found := re.fullmatch(r"(\d+)(;\S+)?", line.strip()):
                return found[1]
        raise QueueError(f"sbatch printed no job id, but {output.strip()!r}")

    def keys(self, job: str, count: int) -> list[str]:
        """The keys of a new job array's elements."""
        return [f"slurm-{job}_{index}" for index in range(count)]

    def jobs(self, name: str) -> list[Job]:
        """This user's jobs of a name; ended ones stay listed for some minutes (MinJobAge)."""
        output = self._run(
            [
                # Without --all, jobs of hidden partitions would be missing.
                *("squeue", "--all", "--noheader", "--array", "--states=all"),
                *(f"--user={os.getuid()}", f"--name={name}", f"--Format={_FIELDS}"),
            ],
            environment_without(_REMOVED, _KEPT),
        )
        jobs = []
        for line in output.splitlines():
            found = re.fullmatch(r"(\d+)(?:_(\d+))?\|(\w+)\|(.*)\|(.*)\|(.*)\|", line.strip())
            if found is None:
                raise QueueError(f"squeue printed {line!r}, which is not a job")
            jobs.append(_job(found))
        return jobs

    def cancel(self, keys: Sequence[str]) -> None:
        """Cancel these jobs, waiting or running."""
        ids = [key.removeprefix("slurm-") for key in keys]
        for begin in range(0, len(ids), CANCEL_BATCH):
            command = ["scancel", "--quiet", *ids[begin : begin + CANCEL_BATCH]]
            self._run(command, environment_without(_REMOVED, _KEPT))

    def cancel_all(self, name: str) -> None:
        """Cancel all of this user's jobs of a name."""
        self._run(self.cancel_command(name), environment_without(_REMOVED, _KEPT))

    def cancel_command(self, name: str) -> list[str]:
        """The command that does that."""
        return ["scancel", "--quiet", f"--user={os.getuid()}", f"--name={name}"]


def _job(found: re.Match[str]) -> Job:
    """The job of a line of squeue's."""
    job, index, state, host, reason, code = found.groups()
    key = f"slurm-{job}_{index}" if index else f"slurm-{job}"
    if state in _BLAMELESS:
        return Job(key, State.ENDED, state, host.strip(), blameless=True)
    is_held = state in _HELD or (state == "PENDING" and "held" in reason.lower())
    held = reason if is_held else ""
    # The exit code is a wait status, whose lowest bits are the signal.
    by_term = code.strip() == str(int(signal.SIGTERM))
    what = f"{state} by SIGTERM, as before a time limit" if by_term else state
    return Job(key, _STATES.get(state, State.WAITING), what, host.strip(), held=held)


def _options(request: Request) -> list[str]:
    config = request.config
    array = f"0-{request.count - 1}" + (f"%{config.throttle}" if config.throttle else "")
    logs = str(request.logs).replace("%", "%%")
    options = [
        *(f"--job-name={request.name}", f"--array={array}", "--export=ALL"),
        *(f"--output={logs}/slurm-%A_%a-%N.log", "--open-mode=append"),
    ]
    if config.queue is not None:
        options.append(f"--partition={config.queue}")
    if config.project is not None:
        options.append(f"--account={config.project}")
    if config.gpus is not None:
        options.append(f"--gpus-per-task={config.gpus}")
    if config.cores is not None:
        options.append(f"--cpus-per-task={config.cores}")
    if config.job_memory is not None:
        options.append(f"--mem={max(1, config.job_memory >> 20)}M")
    if config.wall_time is not None:
        options.append(f"--time={config.wall_time}")
    return [*options, *config.submit_options, str(request.script)]


def _environment(request: Request) -> dict[str, str]:
    return {**environment_without(_REMOVED, _KEPT), **request.environment}
