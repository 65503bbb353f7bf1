"""Workers as processes that this one starts: of this machine, or by any command."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from blockwise_predict.config import RunConfig
from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.fleet.commands import filled_in, worker_command
from blockwise_predict.fleet.lastwords import last_words
from blockwise_predict.fleet.troubles import FAILED_STARTS, FailedStarts
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.members import Attendance

# Before a worker is replaced: seconds, twice as long after each that died before it joined.
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 30.0
# One that has not joined after so long hangs (seconds).
START_S = 900.0
# A worker that has been told that there is no more work has this long to end by itself.
END_GRACE_S = 10.0
# Workers on this machine end with their scheduler, which may be slow to answer (seconds).
LOCAL_WAIT_S = "60"
# A process that stands for a worker elsewhere has so long to end it; and one that was killed may
# wait for hardware or a file server for ever (seconds).
KILL_S, GONE_S = 5.0, 5.0
# prctl(PR_SET_PDEATHSIG, SIGKILL): the kernel ends a worker when the scheduler ends, however that
# ends. One that has been stopped (SIGSTOP) could not do it itself.
_END_WITH_PARENT = partial(ctypes.CDLL(None).prctl, 1, signal.SIGKILL)


@dataclass
class Place:
    """A place in the fleet: its process, and when to start another if that has ended.

    `handed_over`: the process has ended well before its worker joined; it has passed it on to
    something that starts it some time, a queue for example. `leaving`: the place is given up.
    `failures` of its workers in a row died before they joined.
    """

    number: int
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    started: float = 0.0
    ended_by_us: bool = False
    handed_over: bool = False
    leaving: bool = False
    failures: int = 0

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self, grace: float = 0.0) -> None:
        """End its process, if there is one: at once, or within so many seconds."""
        self.handed_over = False
        if self.process is None:
            return
        if grace:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GONE_S)


class ProcessFleet:
    """Keeps `size` worker processes alive until told to stop.

    One that dies is replaced, by one of the same number (and with that on the same GPU, and with
    the same log), unless so many in a row could not even start. `command` gives the words to start
    a worker, `environment` is added to this process's, and `warn` tells the user. Those of `others`
    run elsewhere: the process here only stands for such a worker, and may wait for its turn.
    """

    def __init__(
        self,
        run_dir: RunDir,
        size: int,
        command: Callable[[int], list[str]],
        environment: Mapping[str, str],
        warn: Callable[[str], None],
        *,
        others: bool,
    ) -> None:
        self.size = self.first_free = size
        self.listens_on = "0.0.0.0" if others else "127.0.0.1"
        self._others = others
        self._start_s = math.inf if others else START_S
        self._kill_s = KILL_S if others else 0.0
        self._run_dir = run_dir
        self._command = command
        self._environment = environment
        self._warn = warn
        self._places = [Place(number) for number in range(size)]
        self._starts = FailedStarts()

    def start(self) -> None:
        """Start all workers. Raises ConfigError if the command cannot be run."""
        for place in self._places:
            try:
                self._start(place)
            except OSError as error:
                raise ConfigError(f"workers cannot be started: {error}") from None

    def _start(self, place: Place) -> None:
        place.ended_by_us = place.handed_over = False
        place.started = time.monotonic()
        with open(self._run_dir.log_file(place.number), "ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches the scheduler alone, which
            # then lets the workers finish their blocks.
            place.process = subprocess.Popen(
                self._command(place.number),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
                start_new_session=True,
                # Only one system call, which cannot wait for another thread.
                preexec_fn=_END_WITH_PARENT,
            )

    def check(self, attendance: Attendance) -> list[int]:
        """Replace workers that died; returns the numbers of those that are to leave.

        Raises RunFailedError, with the end of the last one's log, when replacing is of no use.
        """
        leaving = []
        for place in list(self._places):
            number = place.number
            if number not in attendance.joined and time.monotonic() - place.started > self._start_s:
                place.kill()
            if place.process is not None and not place.running:
                self._bury(place, attendance)
            if place.handed_over and number in attendance.joined:
                if number not in attendance.present:
                    # The worker that was passed on has come, and gone.
                    place.handed_over = False
                    del attendance.joined[number]
                elif place.leaving:
                    # It was waiting for its turn when it became one too many.
                    leaving.append(number)
            if place.process is None and not place.handed_over:
                self._start_or_drop(place, attendance)
        return leaving

    def _start_or_drop(self, place: Place, attendance: Attendance) -> None:
        if place.leaving:
            self._places.remove(place)
        elif time.monotonic() >= place.start_at:
            try:
                self._start(place)
            except OSError as error:
                self._failed_to_start(place, f"cannot be started: {error}", attendance)

    def _bury(self, place: Place, attendance: Attendance) -> None:
        """A process has ended."""
        assert place.process is not None
        code, number = place.process.returncode, place.number
        place.process = None
        joined = number in attendance.joined
        waited_for = not joined or number in attendance.present
        if self._others and code == 0 and waited_for and not place.ended_by_us:
            place.handed_over = True
            return
        attendance.joined.pop(number, None)
        if not joined and not place.ended_by_us:
            self._failed_to_start(place, _how(code), attendance)
            return
        place.failures = 0
        place.start_at = time.monotonic() + FIRST_DELAY_S
        if code and not place.ended_by_us:
            self._run_dir.events.write("exit", worker=number, how=_how(code))
            self._warn(f"worker {number} {_how(code)}; another one is started.")

    def _failed_to_start(self, place: Place, how: str, attendance: Attendance) -> None:
        place.failures += 1
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**place.failures)
        place.start_at = time.monotonic() + delay
        others = any(p.running and not p.failures for p in self._places)
        hopeless = self._starts.another(attendance, others=others)
        words = last_words(self._run_dir.logs, self._run_dir.log_file(place.number).stem)
        if hopeless:
            raise RunFailedError(
                f"{self._starts.row} workers in a row died before their first block; the last "
                f"{how}. {words}"
            )
        often = place.failures == FAILED_STARTS and attendance.present
        if self._starts.row == 1 or often:
            again = f", {FAILED_STARTS} times in a row, while others work" if often else ""
            self._warn(f"worker {place.number} {how} before its first block{again}. {words}")

    def scale(self, size: int, attendance: Attendance) -> list[int]:
        """Keep another number of workers; returns the numbers of those that are to leave."""
        self.size = size
        staying = [place for place in self._places if not place.leaving]
        taken = attendance.joined.keys() | {place.number for place in self._places}
        free = (number for number in itertools.count() if number not in taken)
        self._places += [Place(next(free)) for _ in range(size - len(staying))]
        for place in staying[size:]:
            place.leaving = place.ended_by_us = True
            if place.number not in attendance.joined and not place.handed_over:
                place.kill(self._kill_s)
        return [p.number for p in staying[size:] if p.number in attendance.joined]

    def drain(self, attendance: Attendance) -> None:
        """No more workers are wanted: end those that have not joined yet."""
        for place in self._places:
            if place.number not in attendance.joined:
                place.kill(self._kill_s)

    def end_worker(self, number: int, attendance: Attendance) -> None:
        """End a worker that is lost, at once."""
        for place in self._places:
            if place.number == number:
                place.ended_by_us = True
                place.kill()
                if place.process is None:
                    # It was passed on: the next one is not this one.
                    attendance.joined.pop(number, None)

    def finish(self, attendance: Attendance) -> None:
        """Wait for workers that have no more work, and end those that linger."""
        deadline = time.monotonic() + END_GRACE_S
        while self._lingering(attendance) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()

    def _lingering(self, attendance: Attendance) -> bool:
        handed_over = {place.number for place in self._places if place.handed_over}
        return bool(handed_over & attendance.present) or any(p.running for p in self._places)

    def kill(self) -> None:
        """End the workers at once."""
        for place in self._places:
            place.kill(self._kill_s)

    def abandon(self) -> None:
        """End the workers, which are no other scheduler's."""
        self.kill()


def local_fleet(run_dir: RunDir, config: RunConfig, warn: Callable[[str], None]) -> ProcessFleet:
    """Workers on this machine, which the network does not see."""
    # Workers share the cores: each gets its part, or they would fight over them.
    threads = str(max(1, len(os.sched_getaffinity(0)) // config.planned_workers))

    def command(number: int) -> list[str]:
        return [*worker_command(run_dir, number), "--threads", threads, "--wait", LOCAL_WAIT_S]

    environment = {"OMP_NUM_THREADS": threads}
    return ProcessFleet(run_dir, config.workers, command, environment, warn, others=False)


def command_fleet(run_dir: RunDir, config: RunConfig, warn: Callable[[str], None]) -> ProcessFleet:
    """Workers that a command of the user's starts, one for each call."""

    def command(number: int) -> list[str]:
        return filled_in(config.fleet, run_dir, number)

    return ProcessFleet(run_dir, config.workers, command, {}, warn, others=True)


def _how(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    hint = " (often the system's or the cluster's memory limit)" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"
