"""Workers as child processes: on this machine, or started elsewhere by a command."""

from __future__ import annotations

import itertools
import math
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping

from blockwise_predict.config.model import RunConfig
from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.fleet.commands import filled_in, worker_command
from blockwise_predict.fleet.log_tail import log_tail
from blockwise_predict.fleet.restarts import (
    MAX_FAILED_STARTS,
    RestartDecision,
    RestartPolicy,
    WorkerExit,
)
from blockwise_predict.fleet.waiting import StopNow, wait_until
from blockwise_predict.fleet.worker_process import WorkerProcess, terminate_all
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.members import Changes, Membership

# Delay before a worker is replaced (seconds), see `RestartPolicy`.
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 30.0
# Time within which a worker on this machine must join (seconds).
JOIN_TIMEOUT_S = 900.0
# Time for workers to exit by themselves when there are no more blocks (seconds).
EXIT_GRACE_S = 10.0
# Time for which local workers look for their scheduler, which may be slow to answer (seconds).
LOCAL_WAIT_S = "60"
# Time for a process that stands for a remote worker to end that worker (seconds).
KILL_S = 5.0


class ProcessFleet:
    """Keeps `size` worker processes alive until told to stop.

    A worker that dies is replaced under the same number (so on the same GPU, with the same log), as
    long as that is not hopeless. `command` gives the words that start a worker, `environment` is
    added to this process's, and `warn` informs the user. `remote` workers run elsewhere: their
    process here only stands for them, and may be waiting in a queue.
    """

    def __init__(
        self,
        run_dir: RunDir,
        size: int,
        command: Callable[[int], list[str]],
        *,
        environment: Mapping[str, str],
        warn: Callable[[str], None],
        remote: bool,
    ) -> None:
        self.size = self.first_free = size
        self.listens_on = "0.0.0.0" if remote else "127.0.0.1"
        self._remote = remote
        self._join_timeout = math.inf if remote else JOIN_TIMEOUT_S
        self._kill_grace = KILL_S if remote else 0.0
        self._run_dir = run_dir
        self._command = command
        self._environment = environment
        self._warn = warn
        self._processes = [WorkerProcess(number) for number in range(size)]
        self._policy = RestartPolicy(FIRST_DELAY_S, LONGEST_DELAY_S)

    def start(self, stop_now: StopNow) -> None:
        """Start all workers, or as many as it can before `stop_now`.

        Raises ConfigError if the command cannot be run.
        """
        for process in self._processes:
            if stop_now():
                return
            try:
                self._start(process)
            except OSError as error:
                raise ConfigError(f"workers cannot be started: {error}") from None

    def _start(self, process: WorkerProcess) -> None:
        log = self._run_dir.open_log(process.number)
        process.start(self._command(process.number), self._environment, log)

    def check(self, membership: Membership) -> Changes:
        """Replace workers that died.

        Raises RunFailedError, with the end of the last one's log, when that is hopeless; not after
        `drain`.
        """
        leaving, gone = [], []
        for process in list(self._processes):
            number = process.number
            joined = membership.joined(number, process.started)
            process.enforce_kill()
            overdue = time.monotonic() - process.started > self._join_timeout
            if process.running and not joined and overdue:
                process.timed_out = True
                process.terminate(0.0)
            has_ended = process.popen is not None and not process.running
            if has_ended and self._handle_exit(process, membership):
                gone.append(number)
            if process.detached and joined:
                if number not in membership.present:
                    # The detached worker has joined and left again.
                    process.detached = False
                elif process.leaving:
                    # It was still queued when the fleet was scaled down.
                    leaving.append(number)
            if process.popen is None and not process.detached:
                self._restart_or_drop(process, membership)
        # Also those that do not seem to have joined: `membership` may be older than that.
        return Changes(tuple(leaving), tuple(gone))

    def _restart_or_drop(self, process: WorkerProcess, membership: Membership) -> None:
        if process.leaving:
            self._processes.remove(process)
        elif time.monotonic() >= process.restart_at:
            try:
                self._start(process)
            except OSError as error:
                self._handle_failed_start(process, f"cannot be started: {error}", membership)

    def _handle_exit(self, process: WorkerProcess, membership: Membership) -> bool:
        """Note that a process has ended; returns whether its worker is known to have ended, too."""
        assert process.popen is not None
        code, number = process.popen.returncode, process.number
        process.popen = None
        joined = membership.joined(number, process.started)
        expected = not joined or number in membership.present
        if self._remote and code == 0 and expected and not process.terminated:
            process.detached = True
            return False
        if process.terminated or process.leaving:
            process.restart_at = time.monotonic() + FIRST_DELAY_S
        elif not joined:
            late = f"did not join within {self._join_timeout:g} s"
            how = late if process.timed_out else _exit_text(code)
            self._handle_failed_start(process, how, membership)
        else:
            process.failed_start = False
            self._plan_restart(process, _exit_text(code), membership, failed_start=False)
            if code:
                self._run_dir.events.write("exit", worker=number, how=_exit_text(code))
                self._warn(f"worker {number} {_exit_text(code)}; another one is started.")
        # A command that exited with 0 may have detached from a worker that still runs.
        return code != 0 or not self._remote

    def _handle_failed_start(
        self, process: WorkerProcess, how: str, membership: Membership
    ) -> None:
        process.failed_start = True
        decision = self._plan_restart(process, how, membership, failed_start=True)
        row = decision.failed_starts
        repeated = row == MAX_FAILED_STARTS and bool(membership.present)
        if row == 1 or repeated:
            times = f", {MAX_FAILED_STARTS} times in a row, while others work" if repeated else ""
            tail = self._log_tail(process)
            self._warn(f"worker {process.number} {how} before its first block{times}. {tail}")

    def _plan_restart(
        self, process: WorkerProcess, how: str, membership: Membership, *, failed_start: bool
    ) -> RestartDecision:
        """Schedule a replacement. Raises RunFailedError when that is hopeless."""
        starting = any(other.running and not other.failed_start for other in self._processes)
        decision = self._policy.ended(
            WorkerExit(
                failed_start=failed_start,
                joins=membership.joins,
                done=membership.done,
                others_work=starting or bool(membership.present),
                size=self.size,
            )
        )
        process.restart_at = time.monotonic() + decision.delay
        if decision.hopeless == "starts":
            raise RunFailedError(
                f"{decision.failed_starts} workers in a row died before their first block; the "
                f"last {how}. {self._log_tail(process)}"
            )
        if decision.hopeless == "ends":
            raise RunFailedError(
                f"{decision.fruitless} workers in a row ended with no block done in between; the "
                f"last {how}. {self._log_tail(process)}"
            )
        return decision

    def _log_tail(self, process: WorkerProcess) -> str:
        return log_tail(self._run_dir.logs, self._run_dir.log_file(process.number).stem)

    def scale(self, size: int, membership: Membership) -> Changes:
        """Keep a different number of workers."""
        self.size = size
        staying = [process for process in self._processes if not process.leaving]
        taken = membership.present | {process.number for process in self._processes}
        free = (number for number in itertools.count() if number not in taken)
        self._processes += [WorkerProcess(next(free)) for _ in range(size - len(staying))]
        leaving = []
        for process in staying[size:]:
            process.leaving = process.terminated = True
            if membership.joined(process.number, process.started):
                leaving.append(process.number)
            elif not process.detached:
                process.terminate(self._kill_grace)
        return Changes(leaving=tuple(leaving))

    def drain(self, membership: Membership) -> None:
        """Start no more workers, and terminate those that have not joined yet."""
        self.size = 0
        for process in self._processes:
            process.leaving = True
            if not membership.joined(process.number, process.started):
                process.terminated = True
                process.terminate(self._kill_grace)

    def end_workers(self, numbers: Collection[int], membership: Membership) -> None:  # noqa: ARG002
        """Kill evicted workers."""
        for process in self._processes:
            if process.number in numbers:
                process.terminated = True
                process.terminate(0.0)
                if process.popen is None:
                    # It was detached: only a worker that joins from now on is its replacement.
                    process.started = time.monotonic()

    def finish(self, membership: Callable[[], Membership], stop_now: StopNow) -> None:
        """Wait for workers to exit when there are no more blocks; terminate those that linger."""
        self.drain(membership())

        def ended() -> bool:
            for process in self._processes:
                process.enforce_kill()
            present = membership().present
            detached = {process.number for process in self._processes if process.detached}
            return not detached & present and not any(p.running for p in self._processes)

        wait_until(ended, EXIT_GRACE_S, stop_now)
        self.kill(stop_now)

    def kill(self, stop_now: StopNow) -> None:
        """Terminate the workers, and wait for that; only briefly after `stop_now`."""
        terminate_all(self._processes, self._kill_grace, stop_now)

    def abandon(self) -> None:
        """Terminate the workers; no other scheduler could."""
        self.kill(lambda: True)


def local_fleet(run_dir: RunDir, config: RunConfig, warn: Callable[[str], None]) -> ProcessFleet:
    """Workers on this machine, connected through loopback."""
    # Workers share the cores: more threads than cores would slow all of them down.
    threads = str(max(1, len(os.sched_getaffinity(0)) // config.planned_workers))

    def command(number: int) -> list[str]:
        words = worker_command(run_dir, number, config.consent_options)
        return [*words, "--threads", threads, "--wait", LOCAL_WAIT_S]

    environment = {"OMP_NUM_THREADS": threads}
    return ProcessFleet(
        run_dir, config.workers, command, environment=environment, warn=warn, remote=False
    )


def command_fleet(run_dir: RunDir, config: RunConfig, warn: Callable[[str], None]) -> ProcessFleet:
    """Workers that a command of the user's starts, one for each call."""

    def command(number: int) -> list[str]:
        return filled_in(config.fleet, run_dir, number, config.consent_options)

    return ProcessFleet(run_dir, config.workers, command, environment={}, warn=warn, remote=True)


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    hint = " (often the system's or the cluster's memory limit)" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"
