"""Workers as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from blockwise_predict.config import RunConfig
from blockwise_predict.errors import RunFailedError
from blockwise_predict.rundir import RunDir

# So many workers in a row may die before they are ready for their first block.
FAILED_STARTS = 3
# So many blocks in a row may take all their attempts' workers down with them.
DEADLY_BLOCKS = 3
LOG_TAIL_LINES = 15
# A worker that has been told that there is no more work has this long to end by itself.
END_GRACE_S = 10.0


@dataclass
class Worker:
    """A running worker process and its number."""

    number: int
    process: subprocess.Popen[bytes]


class LocalFleet:
    """Keeps `size` worker processes alive until told to stop.

    A worker that dies is replaced, unless so many have died in a row that the next would die too.
    `attempts` is how often a block is tried.
    """

    def __init__(self, run_dir: RunDir, config: RunConfig) -> None:
        size = config.workers
        self._run_dir = run_dir
        self._size = size
        self._device = config.device
        self._slots = config.slots
        self._attempts = config.retries + 1
        # Workers share the cores: each gets its part, or they would fight over them.
        self._threads = max(1, len(os.sched_getaffinity(0)) // size)
        self._next = run_dir.next_worker()
        self._workers: list[Worker] = []
        self._failed_starts = 0
        self._deaths = 0
        self._finished_blocks = 0

    @property
    def alive(self) -> int:
        """Number of workers that are running."""
        return sum(worker.process.poll() is None for worker in self._workers)

    def start(self) -> None:
        """Start all workers."""
        for _ in range(self._size):
            self._start_one(solo=0)

    def _start_one(self, solo: int) -> None:
        number = self._next
        self._next += 1
        command = [sys.executable, "-m", "blockwise_predict", "worker", str(self._run_dir)]
        command += ["--number", str(number), "--device", self._device]
        command += ["--slots", str(self._slots), "--threads", str(self._threads)]
        command += ["--solo", str(solo)]
        threads = str(self._threads)
        environment = {**os.environ, "TOKIO_WORKER_THREADS": "1", "OMP_NUM_THREADS": threads}
        with open(self._run_dir.log_file(number), "ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches the scheduler alone, which
            # then lets the workers finish their blocks.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._workers.append(Worker(number, process))

    def check(self, finished_blocks: int) -> None:
        """Replace workers that died; call it regularly with the number of blocks finished so far.

        Raises RunFailedError with the end of the last one's log when replacing is of no use.
        """
        if finished_blocks > self._finished_blocks:
            self._finished_blocks = finished_blocks
            self._deaths = 0
        for worker in list(self._workers):
            code = worker.process.poll()
            if code is not None:
                self._workers.remove(worker)
                self._count_death(worker, code)
                # One of the blocks that it held may have killed it, and shall take no other with
                # it: they come next, and the new worker takes them one at a time.
                self._start_one(solo=2 * self._slots)

    def _count_death(self, worker: Worker, code: int) -> None:
        self._deaths += 1
        self._failed_starts = 0 if self._was_ready(worker) else self._failed_starts + 1
        if self._failed_starts >= FAILED_STARTS:
            what = f"{self._failed_starts} workers in a row died before their first block"
            raise RunFailedError(f"{what}{self._last_words(worker, code)}")
        if self._deaths >= DEADLY_BLOCKS * self._attempts:
            what = f"{self._deaths} workers in a row died and no block was finished"
            raise RunFailedError(f"{what}{self._last_words(worker, code)}")

    def _was_ready(self, worker: Worker) -> bool:
        events = self._run_dir.event_file(worker.number)
        return events.exists() and events.stat().st_size > 0

    def _last_words(self, worker: Worker, code: int) -> str:
        log = self._run_dir.log_file(worker.number)
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        tail = "\n".join(f"  {line}" for line in lines) or "  (its log is empty)"
        return f"; the last {_how(code)}. Its log {log} ends with:\n{tail}"

    def drain(self) -> None:
        """Tell the workers to finish the blocks they hold and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the workers at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(number)

    def finish(self) -> None:
        """Wait for workers that have no more work, and end those that linger."""
        deadline = time.monotonic() + END_GRACE_S
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()
        for worker in self._workers:
            worker.process.wait()


def _how(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by {signal.Signals(-code).name}"
