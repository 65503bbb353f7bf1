"""A real run that is disturbed hundreds of times, and must end as if nothing had happened.

    python tests/support/chaos.py --seed 1 --seed 2 --faults 100

A tiny network predicts a volume in some 300 blocks with several worker processes. From a seed,
workers are killed, stopped for good and for a while, and cut off, one or all, with and without a
word (they connect through a cable of this program); messages are garbled; blocks raise errors, run
out of memory, or hang; rubbish is put where temporary files stand; records are cut short; finished
chunks are damaged; the disk is filled (a small tmpfs, where this user may mount one); and the
scheduler is killed or interrupted and started again. When all blocks are done, another round
begins, until there were enough faults.

At each round's end: verify finds nothing (after what was damaged on purpose was repaired), every
chunk has the bytes that an undisturbed run wrote, no process is left over, and no lock is held.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.lock import read_holder
from tests.support.cable import Cable
from tests.support.disks import mounted
from tests.support.networks import save_network
from tests.support.runs import blocks_done, command, stored_bytes, write_volume

BLOCK = 16
BLOCKS = (7, 7, 6)
TMPFS_SIZE = "64m"

# In workers: blocks take a moment, and the next one does what a file asks for. Everywhere: silence
# is noticed soon.
SITE = """
import os, sys
FOLDER = {folder!r}
if {{"run", "worker"}} & set(sys.orig_argv):
    from blockwise_predict.scheduling import worker_server
    from blockwise_predict.transport import connect, gate
    gate.HEARTBEAT_S = connect.HEARTBEAT_S = 2.0
    connect.CONNECT_S = 2.0
    worker_server.GRACE_S = 6.0
    from blockwise_predict.records import lock
    lock.WATCH_S = 5.0
def asked(kind):
    try:
        os.unlink(os.path.join(FOLDER, kind))
    except FileNotFoundError:
        return False
    return True
if "worker" in sys.orig_argv:
    import time
    from blockwise_predict.worker import block
    process = block.BlockProcessor.process
    predict = block.BlockProcessor._predict
    def slow(self, roi, turn):
        time.sleep({pause})
        if asked("hang"):
            time.sleep(1000)
        if asked("raise"):
            raise ValueError("chaos in block %s" % (tuple(roi.begin),))
        return process(self, roi, turn)
    def exhausted(self, *arguments):
        if asked("memory"):
            raise MemoryError("chaos")
        return predict(self, *arguments)
    block.BlockProcessor.process = slow
    block.BlockProcessor._predict = exhausted
"""


class Chaos:
    """One seed's job: its files, its scheduler, and what is done to them."""

    def __init__(self, folder: Path, seed: int, workers: int, pause: float) -> None:
        self.folder, self.workers = folder, workers
        self.chance = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.starts = 0
        self._cable = Cable()
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._site = folder / "site"
        self._site.mkdir()
        (self._site / "sitecustomize.py").write_text(SITE.format(folder=str(folder), pause=pause))
        weights, architecture = save_network(folder)
        shape = tuple(BLOCK * n - 3 for n in BLOCKS)
        data = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        source = write_volume(folder / "volume.zarr", data)
        self._options: list[object] = [
            *("--checkpoint", weights, "--architecture", architecture, "--input", source),
            *("--chunk-shape", "16,16,16", "--block-shape", "16,16,16", "--device", "cpu"),
            *("--precision", "float32", "--block-timeout", "10", "--retries", "5"),
        ]
        self.output = str(folder / "disk" / "out.zarr" / "out")
        self.run_dir = default_run_dir(self.output)

    def undisturbed(self) -> dict[str, bytes]:
        """The bytes of every chunk of a run in peace."""
        output = str(self.folder / "peace.zarr" / "out")
        subprocess.run(
            command("run", *self._options, "--output", output), check=True, capture_output=True
        )
        return stored_bytes(output)

    @property
    def running(self) -> bool:
        """Whether the scheduler runs."""
        return self._scheduler is not None and self._scheduler.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of the last scheduler."""
        return None if self._scheduler is None else self._scheduler.returncode

    def start(self) -> None:
        """Start the scheduler, and put the proxy in the workers' way."""
        self.starts += 1
        environment = {**os.environ, "PYTHONPATH": str(self._site)}
        arguments = ["run", *self._options, "--output", self.output, "--workers", self.workers]
        with open(self.folder / "scheduler.log", "ab") as log:
            self._scheduler = subprocess.Popen(
                command(*arguments), stdout=log, stderr=log, env=environment
            )
        deadline = time.monotonic() + 60
        while self.running and time.monotonic() < deadline:
            with suppress(Exception):
                address = RunDir(self.run_dir).address()
                if address.port != self._cable.port:
                    self._cable.target = address.port
                    RunDir(self.run_dir).write_address(replace(address, port=self._cable.port))
                    return
            time.sleep(0.02)

    def own_processes(self) -> list[psutil.Process]:
        """All processes of this job, the scheduler first."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.folder) in " ".join(process.cmdline()):
                    found.append(process)
        return [p for p in found if p.pid != os.getpid()]

    def worker(self) -> psutil.Process | None:
        """A worker, any."""
        workers = []
        for process in self.own_processes():
            with suppress(psutil.Error):
                if "worker" in process.cmdline():
                    workers.append(process)
        return self.chance.choice(workers) if workers else None

    # Faults: each returns whether it could be done.

    def _signal(self, number: signal.Signals) -> bool:
        worker = self.worker()
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
        worker = self.worker()
        if worker is None:
            return False
        with suppress(psutil.NoSuchProcess):
            worker.suspend()
            time.sleep(self.chance.uniform(0.2, 2))
            worker.resume()
        return True

    def cut_connection(self) -> bool:
        """One worker's connection breaks."""
        return self._cable.cut(self.chance)

    def cut_connections(self) -> bool:
        """All connections break at once, as when a switch restarts."""
        return self._cable.cut()

    def black_hole(self) -> bool:
        """Nothing is carried for a while, which may be longer than workers have to come back."""
        self._cable.swallow(True)
        time.sleep(self.chance.choice([0.5, 3.0, 6.0, 12.0]))
        self._cable.swallow(False)
        return True

    def garble_message(self) -> bool:
        """A broken message, in either direction."""
        return self._cable.garble()

    def fail_block(self) -> bool:
        """The next block raises an error."""
        (self.folder / "raise").touch()
        return True

    def exhaust_memory(self) -> bool:
        """The next block does not get the memory it wants."""
        (self.folder / "memory").touch()
        return True

    def hang_block(self) -> bool:
        """The next block takes longer than it may."""
        (self.folder / "hang").touch()
        return True

    def litter(self) -> bool:
        """Rubbish where temporary files of chunks stand, and where records' stand."""
        index = "/".join(str(self.chance.randrange(n)) for n in BLOCKS)
        chunk = Path(self.output) / "c" / "0" / index
        if not chunk.parent.parent.exists():
            return False
        chunk.parent.mkdir(parents=True, exist_ok=True)
        for file in (chunk.with_name(chunk.name + ".__lock"), self.run_dir / ".plan.json.1"):
            with suppress(FileNotFoundError):
                file.write_bytes(os.urandom(100))
        return True

    def cut_records(self) -> bool:
        """The last line of what is appended to is cut short."""
        for name in ("events.jsonl", "failures.jsonl"):
            file = self.run_dir / name
            if file.exists() and file.stat().st_size > 10:
                os.truncate(file, file.stat().st_size - self.chance.randrange(1, 10))
        return True

    def damage_chunk(self) -> bool:
        """A chunk that was finished is cut short; for verify to find."""
        chunks = [p for p in Path(self.output).rglob("*") if p.is_file() and p.name.isdigit()]
        if not chunks:
            return False
        file = self.chance.choice(chunks)
        with suppress(FileNotFoundError):
            os.truncate(file, self.chance.randrange(file.stat().st_size // 2))
        return True

    def fill_disk(self) -> bool:
        """No space is left, for a while; the run stops by itself."""
        disk = self.folder / "disk"
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
        return self._end_scheduler(signal.SIGKILL)

    def interrupt_scheduler(self) -> bool:
        """Ctrl-C; its workers finish what they hold."""
        return self._end_scheduler(signal.SIGINT)

    def second_scheduler(self) -> bool:
        """Another run on the same output: it must be refused."""
        if not self.running or read_holder(self.run_dir / "lock") is None:
            return False
        arguments = command("run", *self._options, "--output", self.output)
        refused = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if self.running:
            assert refused.returncode == 2, refused.stderr
            assert "is in use by process" in refused.stderr, refused.stderr
        return True

    def _end_scheduler(self, number: signal.Signals) -> bool:
        if not self.running:
            return False
        assert self._scheduler is not None
        self._scheduler.send_signal(number)
        self._scheduler.wait(60)
        deadline = time.monotonic() + 10
        while self.own_processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not self.own_processes(), f"left over: {self.own_processes()}"
        return True

    def faults(self) -> dict[Callable[[], bool], int]:
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
            self.damage_chunk: 3,
            self.fill_disk: 2,
            self.kill_scheduler: 2,
            self.interrupt_scheduler: 1,
            self.second_scheduler: 1,
        }

    def disturb(self) -> None:
        """Do one of them."""
        faults = self.faults()
        fault = self.chance.choices(list(faults), weights=list(faults.values()))[0]
        if fault():
            self.done[fault.__name__] += 1

    def round(self, enough: int, interval: float) -> None:
        """Run to the end, with faults while there were not enough."""
        while True:
            if not self.running:
                if self.exit_code == 0 and blocks_done(self.run_dir) == np.prod(BLOCKS):
                    return
                self.start()
            if self.done.total() < enough:
                time.sleep(self.chance.expovariate(1 / interval))
                self.disturb()
            else:
                time.sleep(0.2)

    def settle(self) -> None:
        """What was damaged on purpose is found and done again; nothing else is wrong."""
        for kind in ("raise", "memory", "hang"):
            (self.folder / kind).unlink(missing_ok=True)
        found = self.predict("verify", self.output, "--repair")
        assert not {"missing", "failed", "different"} & set(found.split()), found
        self.predict("run", *self._options, "--output", self.output)

    def predict(self, *arguments: object) -> str:
        """A command, in peace; gives what it printed."""
        result = subprocess.run(
            command(*arguments), capture_output=True, text=True, check=False, timeout=300
        )
        assert result.returncode in (0, 1), result.stderr
        return result.stdout + result.stderr

    def check(self, expected: dict[str, bytes]) -> None:
        """Nothing lost, nothing wrong, nothing left over."""
        text = self.predict("verify", self.output, "--sample", "5")
        total = int(np.prod(BLOCKS))
        assert f"{total} blocks: {total} complete" in text, text
        chunks = {k: v for k, v in stored_bytes(self.output).items() if not k.endswith("__lock")}
        wrong = [name for name in expected if chunks.get(name) != expected[name]]
        assert not wrong, f"chunks with other bytes: {wrong[:5]}"
        assert set(chunks) == set(expected)
        assert not self.own_processes()
        assert read_holder(self.run_dir / "lock") is None
        records = RunDir(self.run_dir)
        with closing(records.ledger(records.plan())) as ledger:
            assert len(ledger.states) == total
        size = sum(p.stat().st_size for p in self.run_dir.rglob("*") if p.is_file())
        assert size < 64 << 20, f"the run directory has grown to {size} bytes"


def run_chaos(seed: int, faults: int, workers: int, interval: float, pause: float) -> Counter[str]:
    """Disturb a job from a seed until there were so many faults; returns their numbers."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        with mounted(folder / "disk", TMPFS_SIZE):
            chaos = Chaos(folder, seed, workers, pause)
            try:
                expected = chaos.undisturbed()
                rounds = 0
                while chaos.done.total() < faults:
                    shutil.rmtree(Path(chaos.output).parent, ignore_errors=True)
                    shutil.rmtree(chaos.run_dir, ignore_errors=True)
                    chaos.round(faults, interval)
                    chaos.settle()
                    chaos.check(expected)
                    rounds += 1
                click.echo(
                    f"seed {seed}: {chaos.done.total()} faults in {rounds} rounds of "
                    f"{int(np.prod(BLOCKS))} blocks, {chaos.starts} starts of the scheduler; "
                    f"{dict(chaos.done)}"
                )
                return chaos.done
            except BaseException:
                log = folder / "scheduler.log"
                click.echo(log.read_text()[-8000:] if log.exists() else "", err=True)
                for process in chaos.own_processes():
                    process.kill()
                raise


@click.command(help=__doc__)
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3, 4, 5))
@click.option("--faults", default=100, show_default=True, help="For each seed.")
@click.option("--workers", default=3, show_default=True)
@click.option("--interval", default=1.0, show_default=True, help="Mean seconds between faults.")
@click.option("--pause", default=0.3, show_default=True, help="Seconds that a block takes.")
def main(seeds: tuple[int, ...], faults: int, workers: int, interval: float, pause: float) -> None:
    begin = time.monotonic()
    total: Counter[str] = Counter()
    for seed in seeds:
        total += run_chaos(seed, faults, workers, interval, pause)
    minutes = (time.monotonic() - begin) / 60
    click.echo(
        f"{total.total()} faults over {len(seeds)} seeds in {minutes:.0f} min: {dict(total)}"
    )


if __name__ == "__main__":
    main()
