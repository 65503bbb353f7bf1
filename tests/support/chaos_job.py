"""The job that the chaos test disturbs, and what must hold when it has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.lock import read_holder
from tests.support.cable import Cable
from tests.support.forked import predict_forked
from tests.support.networks import save_network
from tests.support.runs import command, stored_bytes, write_volume
from tests.support.sabotage import write_startup

BLOCK = 16
BLOCKS = (7, 7, 6)
# A block is two shards, rows of its eight chunks.
SHARDS = (14, 7, 6)

# In workers: blocks take a moment, and the next one does what a file asks for. Everywhere: silence
# is noticed soon.
SITE = """
import os, sys
FOLDER = {folder!r}
if {{"run", "worker"}} & set(sys.orig_argv):
    from blockwise_predict.scheduling import worker_server
    from blockwise_predict.scheduling.transport import connect, gate
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


class DisturbedJob:
    """A job of some 300 blocks: its files, its scheduler, and what must hold at its end."""

    def __init__(self, folder: Path, seed: int, workers: int, pause: float) -> None:
        self.folder, self.workers = folder, workers
        self.starts = 0
        self.cable = Cable()
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._site = folder / "site"
        self._site.mkdir()
        write_startup(self._site, SITE.format(folder=str(folder), pause=pause))
        weights, architecture = save_network(folder)
        shape = tuple(BLOCK * n - 3 for n in BLOCKS)
        data = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        source = write_volume(folder / "volume.zarr", data)
        self.options: list[object] = [
            *("--checkpoint", weights, "--architecture", architecture, "--input", source),
            *("--chunk-shape", "8,8,8", "--block-shape", "16,16,16", "--device", "cpu"),
            *("--precision", "float32", "--block-timeout", "10", "--retries", "5"),
        ]
        self.output = str(folder / "disk" / "out.zarr" / "out")
        self.run_dir = default_run_dir(self.output)

    def undisturbed(self) -> dict[str, bytes]:
        """The bytes of every shard of an undisturbed run."""
        output = str(self.folder / "peace.zarr" / "out")
        self.predict("run", *self.options, "--output", output, codes=(0,))
        shards = stored_bytes(output)
        assert len(shards) == np.prod(SHARDS)
        return shards

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
        arguments = ["run", *self.options, "--output", self.output, "--workers", self.workers]
        with open(self.folder / "scheduler.log", "ab") as log:
            self._scheduler = subprocess.Popen(
                command(*arguments), stdout=log, stderr=log, env=environment
            )
        deadline = time.monotonic() + 60
        while self.running and time.monotonic() < deadline:
            with suppress(Exception):
                address = RunDir(self.run_dir).address()
                if address.port != self.cable.port:
                    self.cable.target = address.port
                    RunDir(self.run_dir).write_address(replace(address, port=self.cable.port))
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

    def end_scheduler(self, number: signal.Signals) -> bool:
        """Send the scheduler a signal; its workers must end, too. False if none runs."""
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

    def settle(self) -> None:
        """What was damaged on purpose is found and done again; nothing else is wrong."""
        for kind in ("raise", "memory", "hang"):
            (self.folder / kind).unlink(missing_ok=True)
        found = self.predict("verify", self.output, "--repair")
        assert not {"missing", "failed", "different"} & set(found.split()), found
        self.predict("run", *self.options, "--output", self.output)

    def predict(self, *arguments: object, codes: tuple[int, ...] = (0, 1)) -> str:
        """Run a command undisturbed; returns what it printed."""
        words = [str(argument) for argument in arguments]
        code, output = predict_forked(words, os.environ, 300)
        assert code in codes, output
        return output

    def check(self, expected: dict[str, bytes]) -> None:
        """Nothing lost, nothing wrong, nothing left over."""
        text = self.predict("verify", self.output, "--sample", "5")
        total = int(np.prod(BLOCKS))
        assert f"{total} blocks: {total} complete" in text, text
        shards = {k: v for k, v in stored_bytes(self.output).items() if not k.endswith("__lock")}
        wrong = [name for name in expected if shards.get(name) != expected[name]]
        assert not wrong, f"shards with other bytes: {wrong[:5]}"
        assert set(shards) == set(expected)
        assert not self.own_processes()
        assert read_holder(self.run_dir / "lock") is None
        records = RunDir(self.run_dir)
        with closing(records.ledger(records.plan())) as ledger:
            assert len(ledger.states) == total
        size = sum(p.stat().st_size for p in self.run_dir.rglob("*") if p.is_file())
        assert size < 64 << 20, f"the run directory has grown to {size} bytes"
