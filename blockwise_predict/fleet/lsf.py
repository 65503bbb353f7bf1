"""IBM LSF 10.1: bsub, bjobs and bkill, as IBM's command reference has them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from blockwise_predict.fleet.queue import Job, Request, State, environment_without
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.fleet.timelimits import TimeLimit, last_option, lsf_seconds, script_words

# Suspended ones wait, too: they cannot be expected to do anything. So do those in a state that is
# not known here: to take a job for dead would be the worse mistake.
_STATES = {
    **dict.fromkeys(("RUN", "UNKWN"), State.RUNNING),
    # It has been killed, but its host has not confirmed that.
    "ZOMBI": State.ENDING,
    **dict.fromkeys(("DONE", "EXIT"), State.ENDED),
}
_FIELDS = "jobid jobindex stat exit_code exec_host delimiter='|'"
# Ended by a signal (128 and its number), as bkill, a preemption, a time limit and a lost host have
# it; one that was killed before it began often has no code.
_SIGNALS = {
    **{"130": "SIGINT", "137": "SIGKILL", "140": "SIGUSR2: its run limit"},
    "143": "SIGTERM, as before a run limit",
}
_BY_SIGNAL = (*_SIGNALS, "-", "")
# Words of one job's environment that another one must not get, and what of the user's would have
# bsub say nothing of the job (BSUB_QUIET) or only check it (BSUB_CHK_RESREQ).
_OWN = (
    *("LSB_JOB", "LSB_BATCH", "LSB_DJOB", "LSB_MCPU", "LSB_HOSTS", "LSB_SUB", "LS_JOBPID"),
    "BSUB_",
)
AT_ONCE = 200


class LSF:
    """The queue of LSF, whose commands `run` runs."""

    name = "LSF"
    commands = ("bsub", "bjobs", "bkill")

    def __init__(self, run: CommandRunner) -> None:
        self._run = run

    def check(self, request: Request) -> str | None:  # noqa: ARG002
        """bsub has no way to try a request; a wrong one is refused when it is submitted."""
        return None

    def time_limit(self, request: Request) -> TimeLimit | None:
        """How long jobs may take, and when they are told to end, as far as that is asked for."""
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
        """The words that submit a request, whose script comes through the standard input."""
        return ["bsub", *_options(request)]

    def submit(self, request: Request) -> str:
        """Submit a job array; returns its id."""
        # A script is read for #BSUB lines only when it comes through the standard input.
        said = self._run(self.command(request), _environment(request), stdin=_script(request))
        found = re.search(r"Job <(\d+)> is submitted", said)
        if found is None:
            raise QueueError(f"bsub gave no job id, but said: {said.strip()!r}")
        return found[1]

    def keys(self, job: str, count: int) -> list[str]:
        """The keys of a new job array's elements."""
        return [f"lsf-{job}_{index}" for index in range(1, count + 1)]

    def jobs(self, name: str) -> list[Job]:
        """This user's jobs of a name; those that have ended for an hour or so (CLEAN_PERIOD)."""
        command = ["bjobs", "-a", "-noheader", "-J", f"{name}*", "-o", _FIELDS]
        try:
            said = self._run(command, environment_without(_OWN))
        except QueueError as error:
            if re.search(r"No (unfinished )?job found|Job <.*> is not found", str(error)):
                return []
            raise
        lines = [line.strip() for line in said.splitlines()]
        # Sites may have an element's index with the id, too.
        form = r"(\d+)(?:\[\d+\])?\|(\d+)\|(\w+)\|(.*?)\|(.*)"
        found = [match.groups() for line in lines if (match := re.fullmatch(form, line))]
        # Other lines are noise: `Cannot connect to LSF. Please wait ...`
        strange = [line for line in lines if "|" in line and not re.fullmatch(form, line)]
        if strange:
            raise QueueError(f"bjobs said {strange[0]!r}, which is no job")
        return [_job(*groups) for groups in found]

    def cancel(self, keys: Sequence[str]) -> None:
        """Cancel these jobs, waiting or running."""
        ids = [re.sub(r"lsf-(\d+)_(\d+)", r"\1[\2]", key) for key in keys]
        for begin in range(0, len(ids), AT_ONCE):
            self._kill(["bkill", *ids[begin : begin + AT_ONCE]])

    def cancel_all(self, name: str) -> None:
        """Cancel all of this user's jobs of a name."""
        self._kill(self.cancel_command(name))

    def cancel_command(self, name: str) -> list[str]:
        """The words that do that."""
        return ["bkill", "-J", f"{name}*", "0"]

    def _kill(self, command: list[str]) -> None:
        try:
            self._run(command, environment_without(_OWN))
        except QueueError as error:
            gone = r"No (matching|unfinished) job found|[Hh]as already finished"
            lines = str(error).splitlines()
            if not all(re.search(rf"{gone}|is being terminated", line) for line in lines):
                raise


def _job(job: str, index: str, state: str, code: str, host: str) -> Job:
    blameless = state == "EXIT" and code.strip() in _BY_SIGNAL
    what = f"{state} with code {code}" if state == "EXIT" and code.strip("- ") else state
    if blameless and code.strip() in _SIGNALS:
        what += f", {_SIGNALS[code.strip()]}"
    # `4*node7` is four slots of a host.
    host = host.split(":")[0].split("*")[-1].strip("- ")
    held = "suspended while it waited" if state == "PSUSP" else ""
    known = _STATES.get(state, State.WAITING)
    return Job(f"lsf-{job}_{index}", known, what, host, blameless, held)


def _options(request: Request) -> list[str]:
    config = request.config
    limit = f"%{config.throttle}" if config.throttle else ""
    options = ["-J", f"{request.name}[1-{request.count}]{limit}"]
    # LSF's own report of the job; what the job says goes to a log that it opens itself, since LSF
    # would keep it elsewhere until the job's end.
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
    # One -R takes the place of all that the script has.
    if config.cores is not None or any(word.startswith("-R") for word in options):
        options += [] if any("span[" in word for word in options) else ["-R", "span[hosts=1]"]
    return options


def _script(request: Request) -> str:
    """The job script; without GPUs, if none are wanted: no option could take them back."""
    lines = request.script.read_text().splitlines(keepends=True)
    if request.config.gpus == 0:
        lines = [line for line in lines if not re.match(r"#BSUB\s+-gpu\b", line)]
    return "".join(lines)


def _environment(request: Request) -> dict[str, str]:
    return {**environment_without(_OWN), **request.environment}
