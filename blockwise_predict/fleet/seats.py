"""The places of a fleet of processes: what runs there, and how it is ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from blockwise_predict.fleet.waiting import Hurry, wait_until

# Time for which a killed process is waited for, which hardware or a file server may hold for ever;
# and for which any process is waited for when the user is in a hurry (seconds).
GONE_S, HURRY_S = 5.0, 0.4
# prctl(PR_SET_PDEATHSIG, SIGKILL): the kernel ends a worker when the scheduler ends, however that
# ends. One that has been stopped (SIGSTOP) could not do it itself.
_END_WITH_PARENT = partial(ctypes.CDLL(None).prctl, 1, signal.SIGKILL)


@dataclass
class Seat:
    """A place in a fleet: its process, since when, and when to start another if that has ended.

    `handed_over`: the process has ended well before its worker joined; it has passed it on to
    something that starts it some time, a queue for example. `leaving`: the place is given up.
    `ended_by_us` and `late` say why the process was ended, if it was; `failed`, that the last one
    ended before its worker joined.
    """

    number: int
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    started: float = 0.0
    kill_at: float | None = None
    ended_by_us: bool = False
    late: bool = False
    handed_over: bool = False
    leaving: bool = False
    failed: bool = False

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> None:
        """Start a process that writes to a log, a descriptor. Raises OSError."""
        self.ended_by_us = self.late = self.handed_over = False
        self.kill_at = None
        self.started = time.monotonic()
        with open(log, "ab") as out:
            # A session of its own: Ctrl-C in the terminal reaches the scheduler alone, which
            # then lets the workers finish their blocks.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                # Only one system call, which cannot wait for another thread.
                preexec_fn=_END_WITH_PARENT,
            )

    def end(self, grace: float) -> None:
        """Have the process end: at once, or told to, and killed in `grace` seconds (`look`)."""
        self.handed_over = False
        if not self.running:
            return
        if grace:
            self._signal(signal.SIGTERM)
            self.kill_at = self.kill_at or time.monotonic() + grace
        else:
            self._signal(signal.SIGKILL)

    def look(self) -> None:
        """Kill a process that was told to end, and has not in time."""
        if self.kill_at is not None and time.monotonic() > self.kill_at and self.running:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        # What it has started ends with it; it leads a session of its own.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def end_all(seats: Sequence[Seat], grace: float, hurry: Hurry) -> None:
    """End all processes: told to together, and killed together after `grace` seconds."""

    def ended() -> bool:
        return not any(seat.running for seat in seats)

    for seat in seats:
        seat.end(grace)
    if grace and not wait_until(ended, grace, hurry, HURRY_S):
        for seat in seats:
            seat.end(0.0)
    wait_until(ended, GONE_S, hurry, HURRY_S)
