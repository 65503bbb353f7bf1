"""A worker process: one device, and slots that read and write blocks side by side.

The main thread computes; the slots' threads talk to the scheduler, read, and wait for writes.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from blockwise_predict.engine.compute_queue import ComputeQueue
from blockwise_predict.engine.predictor import choose_device, describe_device
from blockwise_predict.records import RunDir
from blockwise_predict.records.pyramid import recorded_pyramid
from blockwise_predict.scheduling.client import Client, ClientOptions
from blockwise_predict.scheduling.transport.messages import Done
from blockwise_predict.worker.job import job_name, log_path
from blockwise_predict.worker.level_block import LevelProcessor
from blockwise_predict.worker.report import Processor, report_on
from blockwise_predict.worker.setup import build_processor

_log = logging.getLogger(__name__)

# Maximum size of a log file; it is emptied when it exceeds that.
MAX_LOG_BYTES = 16 << 20
# Exit code of a worker that has lost the scheduler.
EXIT_LOST_SCHEDULER = 3
# Signals that tell a worker to end. LSF sends SIGURG shortly before the time limit.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGURG)


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker runs. `device` and `slots` are those of the run's configuration if None.

    number: the worker's number; None if the scheduler assigns one.
    threads: number of threads that torch computes with; None for torch's default.
    wait: time to look for the scheduler, at the start and after losing it (seconds).
    grace: time after being told to end, after which blocks are handed back (seconds).
    """

    number: int | None = None
    device: str | None = None
    slots: int | None = None
    threads: int | None = None
    wait: float = 0.0
    grace: float = 10.0
    unsafe_load_pickle: bool = False
    factory: str | None = None


def run_worker(run_dir: RunDir, options: WorkerOptions) -> int:
    """Work on a run until it has no more blocks or this process is told to end (`STOP_SIGNALS`).

    Returns the number of blocks done. Raises a PredictError if the worker cannot start.
    """
    stopping = _stop_event()
    if options.threads:
        torch.set_num_threads(options.threads)
    slots, build = _job(run_dir, options)
    client_options = ClientOptions(
        run=run_dir.run_id(),
        number=options.number,
        slots=options.slots or slots,
        job=job_name(),
        log=log_path(run_dir.logs),
        wait=options.wait,
        grace=options.grace,
    )
    if not options.wait:
        # Fail before loading the network if there is no scheduler to join.
        run_dir.address()
    processor, device = build()
    return _work(processor, run_dir, replace(client_options, device=device), stopping)


def _job(
    run_dir: RunDir, options: WorkerOptions
) -> tuple[int, Callable[[], tuple[Processor, str]]]:
    """What is recorded in a run directory: the slots of its workers, and a function that gives what
    makes its blocks, and on what device."""
    pyramid = recorded_pyramid(run_dir)
    if pyramid is not None:
        return pyramid.slots, lambda: (LevelProcessor(pyramid), "cpu")
    plan = run_dir.plan(unsafe_load_pickle=options.unsafe_load_pickle, factory=options.factory)

    def build() -> tuple[Processor, str]:
        device = choose_device(options.device or plan.config.device, options.number or 0)
        return build_processor(plan, device, run_dir), describe_device(device)

    return plan.config.slots, build


def _stop_event() -> threading.Event:
    """An event that `STOP_SIGNALS` set at once.

    A Python signal handler would run only after the main thread has returned from torch, so a
    thread reads the signals' wake-up bytes instead.
    """
    stopping = threading.Event()
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def wait() -> None:
        # Using `sender` here keeps both ends open as long as this thread lives.
        while receiver.recv(1) and sender.fileno():
            stopping.set()

    signal.set_wakeup_fd(sender.fileno())
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=wait, daemon=True, name="signals").start()
    return stopping


def _work(
    processor: Processor, run_dir: RunDir, options: ClientOptions, stopping: threading.Event
) -> int:
    client = Client(run_dir.address, options, stopping, _exit_now)
    host = socket.gethostname()
    _log.info("worker %d on %s: %d slots, %s", client.number, host, options.slots, processor.name)
    compute = ComputeQueue()
    slots = [Slot(number, processor, compute, client) for number in range(options.slots)]
    for slot in slots:
        slot.start()
    compute.serve(lambda: any(slot.is_alive() for slot in slots))
    client.close()
    done = sum(slot.done for slot in slots)
    _log.info("worker %d: %d blocks done", client.number, done)
    return done


def _exit_now(reason: str, blocks_handed_back: bool) -> None:
    """End the process without waiting for blocks in progress, which other workers will do."""
    _log.info("%s: this worker ends", reason)
    os._exit(0 if blocks_handed_back else EXIT_LOST_SCHEDULER)


class Slot(threading.Thread):
    """A thread that processes one block at a time."""

    def __init__(
        self, number: int, processor: Processor, compute: ComputeQueue, client: Client
    ) -> None:
        super().__init__(daemon=True)
        self.done = 0
        self._number = number
        self._processor = processor
        self._compute = compute
        self._client = client

    def run(self) -> None:
        """Process blocks, and report each, until there are none left."""
        while (block := self._client.next(self._number)) is not None:
            message = report_on(self._processor, block, self._compute)
            self.done += isinstance(message, Done)
            self._client.report(self._number, message)
            _limit_log()


def _limit_log() -> None:
    """Empty the log if stdout goes to a file that has become too large."""
    out = sys.stdout.fileno()
    if os.path.isfile(f"/proc/self/fd/{out}") and os.fstat(out).st_size > MAX_LOG_BYTES:
        os.ftruncate(out, 0)
        print(f"(more than {MAX_LOG_BYTES >> 20} MiB of log were removed here)", flush=True)
