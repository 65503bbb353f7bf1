"""Workers as processes that this one starts: of this machine, or by any command."""

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
from blockwise_predict.fleet.lastwords import last_words
from blockwise_predict.fleet.restarts import FAILED_STARTS, End, RestartPolicy, Verdict
from blockwise_predict.fleet.seats import Seat, end_all
from blockwise_predict.fleet.waiting import Hurry, wait_until
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.members import Attendance, Changes

# Before a worker is replaced (seconds), see `RestartPolicy`.
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 30.0
# Time within which a worker on this machine must join (seconds).
START_S = 900.0
# Time for workers to end by themselves when there is no more work (seconds).
END_GRACE_S = 10.0
# Time for which local workers look for their scheduler, which may be slow to answer (seconds).
LOCAL_WAIT_S = "60"
# Time for a process that stands for a worker elsewhere to end that (seconds).
KILL_S = 5.0


class ProcessFleet:
    """Keeps `size` worker processes alive until told to stop.

    One that dies is replaced, by one of the same number (and with that on the same GPU, and with
    the same log), as long as that is not hopeless. `command` gives the words to start a worker,
    `environment` is added to this process's, and `warn` tells the user. Those of `others` run
    elsewhere: the process here only stands for such a worker, and may wait for its turn.
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
        self._seats = [Seat(number) for number in range(size)]
        self._policy = RestartPolicy(FIRST_DELAY_S, LONGEST_DELAY_S)

    def start(self, hurry: Hurry) -> None:
        """Start all workers; no more of them when there is a `hurry`.

        Raises ConfigError if the command cannot be run.
        """
        for seat in self._seats:
            if hurry():
                return
            try:
                self._start(seat)
            except OSError as error:
                raise ConfigError(f"workers cannot be started: {error}") from None

    def _start(self, seat: Seat) -> None:
        log = self._run_dir.open_log(seat.number)
        seat.start(self._command(seat.number), self._environment, log)

    def check(self, attendance: Attendance) -> Changes:
        """Replace workers that died.

        Raises RunFailedError, with the end of the last one's log, when that is hopeless; not after
        `drain`.
        """
        leaving, gone = [], []
        for seat in list(self._seats):
            number = seat.number
            joined = attendance.joined(number, seat.started)
            seat.look()
            if seat.running and not joined and time.monotonic() - seat.started > self._start_s:
                seat.late = True
                seat.end(0.0)
            has_ended = seat.process is not None and not seat.running
            if has_ended and self._bury(seat, attendance):
                gone.append(number)
            if seat.handed_over and joined:
                if number not in attendance.present:
                    # The worker that was passed on has come, and gone.
                    seat.handed_over = False
                elif seat.leaving:
                    # It was waiting for its turn when it became one too many.
                    leaving.append(number)
            if seat.process is None and not seat.handed_over:
                self._start_or_drop(seat, attendance)
        return Changes(tuple(leaving), tuple(n for n in gone if n in attendance.present))

    def _start_or_drop(self, seat: Seat, attendance: Attendance) -> None:
        if seat.leaving:
            self._seats.remove(seat)
        elif time.monotonic() >= seat.start_at:
            try:
                self._start(seat)
            except OSError as error:
                self._failed_to_start(seat, f"cannot be started: {error}", attendance)

    def _bury(self, seat: Seat, attendance: Attendance) -> bool:
        """A process has ended; returns whether its worker has, too, as far as can be known."""
        assert seat.process is not None
        code, number = seat.process.returncode, seat.number
        seat.process = None
        joined = attendance.joined(number, seat.started)
        waited_for = not joined or number in attendance.present
        if self._others and code == 0 and waited_for and not seat.ended_by_us:
            seat.handed_over = True
            return False
        if seat.ended_by_us or seat.leaving:
            seat.start_at = time.monotonic() + FIRST_DELAY_S
        elif not joined:
            how = f"did not join within {self._start_s:g} s" if seat.late else _how(code)
            self._failed_to_start(seat, how, attendance)
        else:
            seat.failed = False
            self._count_end(seat, _how(code), attendance, failed_start=False)
            if code:
                self._run_dir.events.write("exit", worker=number, how=_how(code))
                self._warn(f"worker {number} {_how(code)}; another one is started.")
        # A command that has ended well may have left its worker to itself.
        return code != 0 or not self._others

    def _failed_to_start(self, seat: Seat, how: str, attendance: Attendance) -> None:
        seat.failed = True
        row = self._count_end(seat, how, attendance, failed_start=True).failed_starts
        often = row == FAILED_STARTS and bool(attendance.present)
        if row == 1 or often:
            again = f", {FAILED_STARTS} times in a row, while others work" if often else ""
            words = self._last_words(seat)
            self._warn(f"worker {seat.number} {how} before its first block{again}. {words}")

    def _count_end(
        self, seat: Seat, how: str, attendance: Attendance, *, failed_start: bool
    ) -> Verdict:
        """Plan a replacement. Raises RunFailedError when that is hopeless."""
        starting = any(other.running and not other.failed for other in self._seats)
        others_work = starting or bool(attendance.present)
        end = End(failed_start, attendance.joins, attendance.done, others_work, self.size)
        verdict = self._policy.ended(end)
        seat.start_at = time.monotonic() + verdict.delay
        if verdict.hopeless == "starts":
            raise RunFailedError(
                f"{verdict.failed_starts} workers in a row died before their first block; the last "
                f"{how}. {self._last_words(seat)}"
            )
        if verdict.hopeless == "ends":
            raise RunFailedError(
                f"{verdict.fruitless} workers in a row ended with no block done in between; the "
                f"last {how}. {self._last_words(seat)}"
            )
        return verdict

    def _last_words(self, seat: Seat) -> str:
        return last_words(self._run_dir.logs, self._run_dir.log_file(seat.number).stem)

    def scale(self, size: int, attendance: Attendance) -> Changes:
        """Keep another number of workers."""
        self.size = size
        staying = [seat for seat in self._seats if not seat.leaving]
        taken = attendance.present | {seat.number for seat in self._seats}
        free = (number for number in itertools.count() if number not in taken)
        self._seats += [Seat(next(free)) for _ in range(size - len(staying))]
        leaving = []
        for seat in staying[size:]:
            seat.leaving = seat.ended_by_us = True
            if attendance.joined(seat.number, seat.started):
                leaving.append(seat.number)
            elif not seat.handed_over:
                seat.end(self._kill_s)
        return Changes(leaving=tuple(leaving))

    def drain(self, attendance: Attendance) -> None:
        """No more workers are wanted: end those that have not joined yet."""
        self.size = 0
        for seat in self._seats:
            seat.leaving = True
            if not attendance.joined(seat.number, seat.started):
                seat.ended_by_us = True
                seat.end(self._kill_s)

    def end_workers(self, numbers: Collection[int], attendance: Attendance) -> None:  # noqa: ARG002
        """End workers that are lost, at once."""
        for seat in self._seats:
            if seat.number in numbers:
                seat.ended_by_us = True
                seat.end(0.0)
                if seat.process is None:
                    # It was passed on: the next one is not this one.
                    seat.started = time.monotonic()

    def finish(self, attendance: Callable[[], Attendance], hurry: Hurry) -> None:
        """Wait for workers that have no more work, and end those that linger."""
        self.drain(attendance())

        def ended() -> bool:
            for seat in self._seats:
                seat.look()
            present = attendance().present
            handed_over = {seat.number for seat in self._seats if seat.handed_over}
            return not handed_over & present and not any(seat.running for seat in self._seats)

        wait_until(ended, END_GRACE_S, hurry)
        self.kill(hurry)

    def kill(self, hurry: Hurry) -> None:
        """End the workers, and wait for that, though not long when there is a `hurry`."""
        end_all(self._seats, self._kill_s, hurry)

    def abandon(self) -> None:
        """End the workers, which are no other scheduler's."""
        self.kill(lambda: True)


def local_fleet(run_dir: RunDir, config: RunConfig, warn: Callable[[str], None]) -> ProcessFleet:
    """Workers on this machine, which the network does not see."""
    # Workers share the cores: each gets its part, or they would fight over them.
    threads = str(max(1, len(os.sched_getaffinity(0)) // config.planned_workers))

    def command(number: int) -> list[str]:
        words = worker_command(run_dir, number, config.consent_options)
        return [*words, "--threads", threads, "--wait", LOCAL_WAIT_S]

    environment = {"OMP_NUM_THREADS": threads}
    return ProcessFleet(run_dir, config.workers, command, environment, warn, others=False)


def command_fleet(run_dir: RunDir, config: RunConfig, warn: Callable[[str], None]) -> ProcessFleet:
    """Workers that a command of the user's starts, one for each call."""

    def command(number: int) -> list[str]:
        return filled_in(config.fleet, run_dir, number, config.consent_options)

    return ProcessFleet(run_dir, config.workers, command, {}, warn, others=True)


def _how(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    hint = " (often the system's or the cluster's memory limit)" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"
