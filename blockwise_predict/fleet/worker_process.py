"""One worker number of a process fleet: the process that serves it, and how it is terminated."""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from blockwise_predict.fleet.waiting import StopNow, wait_until

_LOGGER = logging.getLogger(__name__)

# Time to wait for a killed process, which hardware or a file server may keep alive indefinitely;
# and for any process once the user wants to stop at once (seconds).
REAP_TIMEOUT_S, STOP_TIMEOUT_S = 5.0, 0.4
# prctl(PR_SET_PDEATHSIG, SIGKILL): the kernel kills a worker when the scheduler ends, however that
# happens. A worker that is stopped (SIGSTOP) could not notice by itself.
_DIE_WITH_PARENT = partial(ctypes.CDLL(None).prctl, 1, signal.SIGKILL)


@dataclass
class WorkerProcess:
    """A worker number, the process that serves it, and when that one is replaced.

    `started` is when the process was started, `restart_at` the earliest time for the next one.
    `detached`: the process exited with code 0 before its worker joined, so it has passed the worker
    on to something that starts it later, such as a queue. `leaving`: it is no longer replaced.
    `terminated` and `timed_out` say that we ended the process, and that we did so because its
    worker had not joined in time; `failed_start`, that the last process ended before its worker
    joined.
    """

    number: int
    popen: subprocess.Popen[bytes] | None = None
    restart_at: float = 0.0
    started: float = 0.0
    kill_at: float | None = None
    terminated: bool = False
    timed_out: bool = False
    detached: bool = False
    leaving: bool = False
    failed_start: bool = False

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.popen is not None and self.popen.poll() is None

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> None:
        """Start a process that writes to the file descriptor `log`. Raises OSError."""
        self.terminated = self.timed_out = self.detached = False
        self.kill_at = None
        self.started = time.monotonic()
        _LOGGER.debug("worker %d is started: %s", self.number, shlex.join(command))
        with open(log, "ab") as out:
            # A session of its own: Ctrl-C in the terminal reaches the scheduler alone, which
            # then lets the workers finish their blocks.
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                # A single system call, which cannot deadlock on a lock of another thread.
                preexec_fn=_DIE_WITH_PARENT,
            )

    def terminate(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL `grace` seconds later (`enforce_kill`); SIGKILL if it is 0."""
        self.detached = False
        if not self.running:
            return
        if grace:
            self._signal(signal.SIGTERM)
            self.kill_at = self.kill_at or time.monotonic() + grace
        else:
            self._signal(signal.SIGKILL)

    def enforce_kill(self) -> None:
        """Kill a terminated process whose grace period is over."""
        if self.kill_at is not None and time.monotonic() > self.kill_at and self.running:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        assert self.popen is not None
        # The process leads its session, so this reaches whatever it has started as well.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, number)


def terminate_all(processes: Sequence[WorkerProcess], grace: float, stop_now: StopNow) -> None:
    """Terminate all processes together, and kill those left after `grace` seconds."""

    def ended() -> bool:
        return not any(process.running for process in processes)

    for process in processes:
        process.terminate(grace)
    if grace and not wait_until(ended, grace, stop_now, STOP_TIMEOUT_S):
        for process in processes:
            process.terminate(0.0)
    wait_until(ended, REAP_TIMEOUT_S, stop_now, STOP_TIMEOUT_S)
