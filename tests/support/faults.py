"""The faults of the chaos test: each is done to a job that runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from blockwise_predict.records.lock import read_holder
from tests.support.chaos_job import SHARDS, DisturbedJob
from tests.support.runs import command


class Faults:
    """Disturbs a job, from a seed; `done` counts the faults by their names.

    Each fault returns whether it could be done.
    """

    def __init__(self, job: DisturbedJob, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._job = job
        self._chance = random.Random(seed)

    def disturb(self, interval: float) -> None:
        """Do one of them, after a pause of so many seconds on average."""
        time.sleep(self._chance.expovariate(1 / interval))
        weights = self._weights()
        fault = self._chance.choices(list(weights), list(weights.values()))[0]
        if fault():
            self.done[fault.__name__] += 1

    def _weights(self) -> dict[Callable[[], bool], int]:
        """What can happen, and how often against each other."""
        return {
            self.kill_worker: 6,
            self.preempt_worker: 3,
            self.stop_worker: 2,
            self.pause_worker: 3,
            self.cut_connection: 4,
            self.cut_connections: 3,
            self.black_hole: 2,
            self.garble_message: 2,
            self.fail_block: 6,
            self.exhaust_memory: 2,
            self.hang_block: 1,
            self.litter: 4,
            self.cut_records: 3,
            self.damage_shard: 3,
            self.fill_disk: 2,
            self.kill_scheduler: 2,
            self.interrupt_scheduler: 1,
            self.second_scheduler: 1,
        }

    def _worker(self) -> psutil.Process | None:
        """A worker, any."""
        workers = []
        for process in self._job.own_processes():
            with suppress(psutil.Error):
                if "worker" in process.cmdline():
                    workers.append(process)
        return self._chance.choice(workers) if workers else None

    def _signal(self, number: signal.Signals) -> bool:
        worker = self._worker()
        if worker is None:
            return False
        with suppress(psutil.NoSuchProcess):
            worker.send_signal(number)
        return True

    def kill_worker(self) -> bool:
        """As the system does without memory, or a node that dies."""
        return self._signal(signal.SIGKILL)

    def preempt_worker(self) -> bool:
        """As a cluster does: it may finish what it holds."""
        return self._signal(signal.SIGTERM)

    def stop_worker(self) -> bool:
        """It hangs for good."""
        return self._signal(signal.SIGSTOP)

    def pause_worker(self) -> bool:
        """It hangs for a while."""
        worker = self._worker()
        if worker is None:
            return False
        with suppress(psutil.NoSuchProcess):
            worker.suspend()
            time.sleep(self._chance.uniform(0.2, 2))
            worker.resume()
        return True

    def cut_connection(self) -> bool:
        """One worker's connection breaks."""
        return self._job.cable.cut(self._chance)

    def cut_connections(self) -> bool:
        """All connections break at once, as when a switch restarts."""
        return self._job.cable.cut()

    def black_hole(self) -> bool:
        """Nothing is carried for a while, which may be longer than workers have to come back."""
        self._job.cable.swallow(True)
        time.sleep(self._chance.choice([0.5, 3.0, 6.0, 12.0]))
        self._job.cable.swallow(False)
        return True

    def garble_message(self) -> bool:
        """A broken message, in either direction."""
        return self._job.cable.garble()

    def fail_block(self) -> bool:
        """The next block raises an error."""
        (self._job.folder / "raise").touch()
        return True

    def exhaust_memory(self) -> bool:
        """The next block does not get the memory it wants."""
        (self._job.folder / "memory").touch()
        return True

    def hang_block(self) -> bool:
        """The next block takes longer than it may."""
        (self._job.folder / "hang").touch()
        return True

    def litter(self) -> bool:
        """Rubbish where temporary files of shards stand, and where records' stand."""
        index = "/".join(str(self._chance.randrange(n)) for n in SHARDS)
        shard = Path(self._job.output) / "c" / "0" / index
        if not shard.parent.parent.exists():
            return False
        shard.parent.mkdir(parents=True, exist_ok=True)
        for file in (shard.with_name(shard.name + ".__lock"), self._job.run_dir / ".plan.json.1"):
            with suppress(FileNotFoundError):
                file.write_bytes(os.urandom(100))
        return True

    def cut_records(self) -> bool:
        """The last line of what is appended to is cut short."""
        for name in ("events.jsonl", "failures.jsonl"):
            file = self._job.run_dir / name
            if file.exists() and file.stat().st_size > 10:
                os.truncate(file, file.stat().st_size - self._chance.randrange(1, 10))
        return True

    def damage_shard(self) -> bool:
        """A shard that was finished is cut short; for verify to find."""
        shards = [p for p in Path(self._job.output).rglob("*") if p.is_file() and p.name.isdigit()]
        if not shards:
            return False
        file = self._chance.choice(shards)
        with suppress(FileNotFoundError):
            os.truncate(file, self._chance.randrange(file.stat().st_size // 2))
        return True

    def fill_disk(self) -> bool:
        """No space is left, for a while; the run stops by itself."""
        disk = self._job.folder / "disk"
        if not disk.is_mount():
            return False
        ballast = disk / "ballast"
        with suppress(OSError), open(ballast, "wb") as file:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        time.sleep(2)
        ballast.unlink(missing_ok=True)
        return True

    def kill_scheduler(self) -> bool:
        """kill -9; its workers must not outlive it."""
        return self._job.end_scheduler(signal.SIGKILL)

    def interrupt_scheduler(self) -> bool:
        """Ctrl-C; its workers finish what they hold."""
        return self._job.end_scheduler(signal.SIGINT)

    def second_scheduler(self) -> bool:
        """Another run on the same output: it must be refused."""
        if not self._job.running or read_holder(self._job.run_dir / "lock") is None:
            return False
        arguments = command("run", *self._job.options, "--output", self._job.output)
        refused = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if self._job.running:
            assert refused.returncode == 2, refused.stderr
            assert "is in use by process" in refused.stderr, refused.stderr
        return True
