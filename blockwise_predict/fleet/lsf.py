"""IBM LSF 10.1: bsub, bjobs and bkill, as described in IBM's command reference."""

from __future__ import annotations

import re
from collections.abc import Sequence

from blockwise_predict.fleet.queue import Job, Request, State, environment_without
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.fleet.timelimits import TimeLimit, last_option, lsf_seconds, script_words

# Any other state counts as waiting: suspended jobs, and states not known here, since to take a live
# job for dead would be the worse mistake.
_STATES = {
    **dict.fromkeys(("RUN", "UNKWN"), State.RUNNING),
    # Killed, but not yet confirmed by its host.
    "ZOMBI": State.ENDING,
    **dict.fromkeys(("DONE", "EXIT"), State.ENDED),
}
_FIELDS = "jobid jobindex stat exit_code exec_host delimiter='|'"
# Exit codes of jobs ended by a signal (128 plus its number): through bkill, preemption, a time
# limit or a lost host. A job that was killed before it began often has no code.
_SIGNALS = {
    **{"130": "SIGINT", "137": "SIGKILL", "140": "SIGUSR2: its run limit"},
    "143": "SIGTERM, as before a run limit",
}
_BY_SIGNAL = (*_SIGNALS, "-", "")
# Environment variables of the job that this process may run in, which its own jobs must not get;
# and user defaults that silence bsub (BSUB_QUIET) or have it check only (BSUB_CHK_RESREQ).
_REMOVED = (
    *("LSB_JOB", "LSB_BATCH", "LSB_DJOB", "LSB_MCPU", "LSB_HOSTS", "LSB_SUB", "LS_JOBPID"),
    "BSUB_",
)
# Maximum number of array elements on one command line.
CANCEL_BATCH = 200


class LSF:
    """LSF's queue; `run` runs its commands."""

    name = "LSF"
    commands = ("bsub", "bjobs", "bkill")

    def __init__(self, run: CommandRunner) -> None:
        self._run = run

    def check(self, request: Request) -> str | None:  # noqa: ARG002
        """None: bsub cannot test a request, and only refuses a wrong one when it is submitted."""
        return None

    def time_limit(self, request: Request) -> TimeLimit | None:
        """The jobs' time limit and the warning before it; None unless both are requested."""
        given, script = _options(request), script_words(request.script, "#BSUB")
        wall = last_option(given, "-W") or last_option(script, "-W")
        before = last_option(given, "-wt") or last_option(script, "-wt")
        seconds, warning = lsf_seconds(wall or ""), lsf_seconds(before or "")
        if seconds is None or warning is None:
            return None
        remedy = f"--submit-options '-wt {max(1, seconds // 240)}'"
        words = f"-wt {before}, see {request.script}"
        own = request.config.wall_time
        return TimeLimit(
            seconds, warning, f"--wall-time {own}" if own else f"-W {wall}", words, remedy
        )

    def command(self, request: Request) -> list[str]:
        """The command that submits a request, with the script on its standard input."""
        return ["bsub", *_options(request)]

    def submit(self, request: Request) -> str:
        """Submit a job array; returns its id."""
        # bsub reads #BSUB lines only from a script on its standard input.
        output = self._run(self.command(request), _environment(request), stdin=_script(request))
        found = re.search(r"Job <(\d+)> is submitted", output)
        if found is None:
            raise QueueError(f"bsub printed no job id, but {output.strip()!r}")
        return found[1]

    def keys(self, job: str, count: int) -> list[str]:
        """The keys of a new job array's elements."""
        return [f"lsf-{job}_{index}" for index in range(1, count + 1)]

    def jobs(self, name: str) -> list[Job]:
        """This user's jobs of a name; ended ones stay listed for about an hour (CLEAN_PERIOD)."""
        command = ["bjobs", "-a", "-noheader", "-J", f"{name}*", "-o", _FIELDS]
        try:
            output = self._run(command, environment_without(_REMOVED))
        except QueueError as error:
            if re.search(r"No (unfinished )?job found|Job <.*> is not found", str(error)):
                return []
            raise
        lines = [line.strip() for line in output.splitlines()]
        # Some sites print an element's index with the id as well.
        form = r"(\d+)(?:\[\d+\])?\|(\d+)\|(\w+)\|(.*?)\|(.*)"
        found = [match for line in lines if (match := re.fullmatch(form, line))]
        # Lines without a delimiter are noise: `Cannot connect to LSF. Please wait ...`
        malformed = [line for line in lines if "|" in line and not re.fullmatch(form, line)]
        if malformed:
            raise QueueError(f"bjobs printed {malformed[0]!r}, which is not a job")
        return [_job(match) for match in found]

    def cancel(self, keys: Sequence[str]) -> None:
        """Cancel these jobs, waiting or running."""
        ids = [re.sub(r"lsf-(\d+)_(\d+)", r"\1[\2]", key) for key in keys]
        for begin in range(0, len(ids), CANCEL_BATCH):
            self._kill(["bkill", *ids[begin : begin + CANCEL_BATCH]])

    def cancel_all(self, name: str) -> None:
        """Cancel all of this user's jobs of a name."""
        self._kill(self.cancel_command(name))

    def cancel_command(self, name: str) -> list[str]:
        """The command that does that."""
        return ["bkill", "-J", f"{name}*", "0"]

    def _kill(self, command: list[str]) -> None:
        try:
            self._run(command, environment_without(_REMOVED))
        except QueueError as error:
            gone = r"No (matching|unfinished) job found|[Hh]as already finished"
            lines = str(error).splitlines()
            if not all(re.search(rf"{gone}|is being terminated", line) for line in lines):
                raise


def _job(found: re.Match[str]) -> Job:
    """The job of a line of bjobs's."""
    job, index, state, code, host = found.groups()
    blameless = state == "EXIT" and code.strip() in _BY_SIGNAL
    what = f"{state} with code {code}" if state == "EXIT" and code.strip("- ") else state
    if blameless and code.strip() in _SIGNALS:
        what += f", {_SIGNALS[code.strip()]}"
    # `4*node7` means four slots of node7.
    host = host.split(":")[0].split("*")[-1].strip("- ")
    held = "suspended while it waited" if state == "PSUSP" else ""
    known = _STATES.get(state, State.WAITING)
    return Job(f"lsf-{job}_{index}", known, what, host, blameless, held)


def _options(request: Request) -> list[str]:
    config = request.config
    limit = f"%{config.throttle}" if config.throttle else ""
    options = ["-J", f"{request.name}[1-{request.count}]{limit}"]
    # LSF's own report of the job. The job script opens the log for its output itself, since LSF
    # would spool the output elsewhere until the job's end.
    options += ["-o", f"{request.logs}/lsf-%J_%I.out"]
    if config.queue is not None:
        options += ["-q", config.queue]
    if config.project is not None:
        options += ["-P", config.project]
    if config.gpus:
        options += ["-gpu", f"num={config.gpus}"]
    if config.cores is not None:
        options += ["-n", str(config.cores)]
    if config.job_memory is not None:
        size = f"{max(1, config.job_memory >> 20)}MB"
        options += ["-M", size, "-R", f"rusage[mem={size}]"]
    if config.wall_time is not None:
        hours, minutes, seconds = map(int, config.wall_time.split(":"))
        hours, minutes = divmod(hours * 60 + minutes + (seconds > 0), 60)
        options += ["-W", f"{hours}:{minutes:02d}"]
    options += config.submit_options
    # A single -R on the command line replaces all those in the script.
    if config.cores is not None or any(word.startswith("-R") for word in options):
        options += [] if any("span[" in word for word in options) else ["-R", "span[hosts=1]"]
    return options


def _script(request: Request) -> str:
    """The job script; without its GPU request if `--gpus 0`, which no option could override."""
    lines = request.script.read_text().splitlines(keepends=True)
    if request.config.gpus == 0:
        lines = [line for line in lines if not re.match(r"#BSUB\s+-gpu\b", line)]
    return "".join(lines)


def _environment(request: Request) -> dict[str, str]:
    return {**environment_without(_REMOVED), **request.environment}
