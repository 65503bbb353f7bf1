"""Workers as processes of this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from blockwise_predict.config import RunConfig
from blockwise_predict.errors import RunFailedError
from blockwise_predict.records import RunDir

# So many workers in a row may die before they join.
FAILED_STARTS = 3
# Between them it waits: seconds, twice as long each time.
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 30.0
LOG_TAIL_LINES = 15
# One that has not joined after so long hangs (seconds).
START_S = 900.0
# A worker that has been told that there is no more work has this long to end by itself.
END_GRACE_S = 10.0
# prctl(PR_SET_PDEATHSIG, SIGKILL): the kernel ends a worker when the scheduler ends, however that
# ends. One that has been stopped (SIGSTOP) could not do it itself.
_END_WITH_PARENT = partial(ctypes.CDLL(None).prctl, 1, signal.SIGKILL)


@dataclass
class Worker:
    """A place in the fleet: its process, and when to start another if that has ended."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    started: float = 0.0
    ended_by_us: bool = False

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None


class LocalFleet:
    """Keeps `size` worker processes alive until told to stop.

    A worker that dies is replaced, by one of the same number (and with that on the same GPU, and
    with the same log), unless so many in a row could not even start. `warn` tells the user.
    """

    def __init__(self, run_dir: RunDir, config: RunConfig, warn: Callable[[str], None]) -> None:
        self.size = config.workers
        self._run_dir = run_dir
        self._device = config.device
        self._slots = config.slots
        self._warn = warn
        # Workers share the cores: each gets its part, or they would fight over them.
        self._threads = max(1, len(os.sched_getaffinity(0)) // self.size)
        self._workers = [Worker(number) for number in range(self.size)]
        self._failed_starts = 0

    @property
    def alive(self) -> int:
        """Number of workers that are running."""
        return sum(worker.running for worker in self._workers)

    def start(self) -> None:
        """Start all workers."""
        for worker in self._workers:
            self._start(worker)

    def _start(self, worker: Worker) -> None:
        command = [sys.executable, "-m", "blockwise_predict", "worker", str(self._run_dir)]
        command += ["--number", str(worker.number), "--device", self._device]
        command += ["--slots", str(self._slots), "--threads", str(self._threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads)}
        worker.ended_by_us = False
        worker.started = time.monotonic()
        with open(self._run_dir.log_file(worker.number), "ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches the scheduler alone, which
            # then lets the workers finish their blocks.
            worker.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                # Only one system call, which cannot wait for another thread.
                preexec_fn=_END_WITH_PARENT,
            )

    def check(self, joined: set[int]) -> None:
        """Replace workers that died; call it regularly with the numbers of those that joined.

        Raises RunFailedError with the end of the last one's log when replacing is of no use.
        """
        for worker in self._workers:
            late = time.monotonic() - worker.started > START_S
            if worker.process is not None and late and worker.number not in joined:
                worker.process.kill()
                worker.process.wait()
            if worker.process is not None and not worker.running:
                self._bury(worker, joined)
            if worker.process is None and time.monotonic() >= worker.start_at:
                self._start(worker)

    def _bury(self, worker: Worker, joined: set[int]) -> None:
        assert worker.process is not None
        code = worker.process.returncode
        worker.process = None
        if worker.number in joined:
            joined.discard(worker.number)
            self._failed_starts = 0
            if code and not worker.ended_by_us:
                self._warn(f"worker {worker.number} {_how(code)}; another one is started.")
        else:
            self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS:
            raise RunFailedError(
                f"{self._failed_starts} workers in a row died before their first block; the last "
                f"{_how(code)}. {self._last_words(worker)}"
            )
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**self._failed_starts)
        worker.start_at = time.monotonic() + delay

    def _last_words(self, worker: Worker) -> str:
        log = self._run_dir.log_file(worker.number)
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        tail = "\n".join(f"  {line}" for line in lines) or "  (its log is empty)"
        return f"Its log {log} ends with:\n{tail}"

    def drain(self, joined: set[int]) -> None:
        """No more workers are wanted: end those that have not joined yet."""
        for worker in self._workers:
            if worker.process is not None and worker.number not in joined:
                worker.process.kill()

    def end_worker(self, number: int) -> None:
        """End a worker that is lost, at once."""
        for worker in self._workers:
            if worker.number == number and worker.process is not None:
                worker.ended_by_us = True
                worker.process.kill()

    def kill(self) -> None:
        """End the workers at once."""
        for worker in self._workers:
            if worker.process is not None:
                worker.process.kill()
                worker.process.wait()

    def finish(self) -> None:
        """Wait for workers that have no more work, and end those that linger."""
        deadline = time.monotonic() + END_GRACE_S
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()


def _how(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    hint = " (often the system's or the cluster's memory limit)" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"
