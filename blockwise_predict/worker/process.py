"""A worker process: one device, K slots that read and write blocks side by side.

The main thread computes; the slots' threads talk to the scheduler, read, and wait for writes.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass

import torch

from blockwise_predict.engine.compute_queue import ComputeQueue
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.client import Client, ClientOptions
from blockwise_predict.scheduling.transport.messages import MAX_TEXT, Done, Failed
from blockwise_predict.worker.block import BlockProcessor, FatalError, StageError, describe
from blockwise_predict.worker.job import own_job, own_log
from blockwise_predict.worker.setup import build_processor

_log = logging.getLogger(__name__)

# A log that has grown so large begins anew.
MAX_LOG_BYTES = 16 << 20
LOST_SCHEDULER = 3
# What tells a worker to end; SIGURG is LSF's warning that the time limit is near.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGURG)


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker runs; what is None is as the run's configuration says.

    `number` None: the scheduler gives one. It looks for the scheduler for `wait` seconds, and hands
    its blocks back `grace` seconds after it was told to end.
    """

    number: int | None = None
    device: str | None = None
    slots: int | None = None
    threads: int | None = None
    wait: float = 0.0
    grace: float = 10.0
    unsafe_load_pickle: bool = False


def run_worker(run_dir: RunDir, options: WorkerOptions) -> int:
    """Work on a run until it has no more blocks or this process is told to end (`ENDING`).

    Returns the number of blocks done. Raises what keeps the worker from starting.
    """
    stopping = _told_to_end()
    if options.threads:
        torch.set_num_threads(options.threads)
    plan = run_dir.plan(unsafe_load_pickle=options.unsafe_load_pickle)
    terms = ClientOptions(
        run=run_dir.run_id(),
        number=options.number,
        slots=options.slots or plan.config.slots,
        job=own_job(),
        log=own_log(run_dir.logs),
        wait=options.wait,
        grace=options.grace,
    )
    if not options.wait:
        run_dir.address()
    device = choose_device(options.device or plan.config.device, options.number or 0)
    processor = build_processor(plan, device, run_dir)
    return _serve(processor, run_dir, terms, stopping)


def _told_to_end() -> threading.Event:
    """An event that a signal sets at once: Python itself would hear of it only when the main thread
    comes back from torch."""
    told = threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def wait() -> None:
        # Both ends live as long as this thread does.
        while ours.recv(1) and theirs.fileno():
            told.set()

    signal.set_wakeup_fd(theirs.fileno())
    for number in ENDING:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=wait, daemon=True, name="signals").start()
    return told


def _serve(
    processor: BlockProcessor, run_dir: RunDir, terms: ClientOptions, stopping: threading.Event
) -> int:
    link = Client(run_dir.address, terms, stopping, _end_at_once)
    host, checkpoint = socket.gethostname(), processor.plan.network.checkpoint
    _log.info("worker %d on %s: %d slots, %s", link.number, host, terms.slots, checkpoint)
    compute = ComputeQueue()
    slots = [Slot(number, processor, compute, link) for number in range(terms.slots)]
    for slot in slots:
        slot.start()
    compute.serve(lambda: any(slot.is_alive() for slot in slots))
    link.close()
    done = sum(slot.done for slot in slots)
    _log.info("worker %d: %d blocks done", link.number, done)
    return done


def _end_at_once(why: str, well: bool) -> None:
    """What is in work is others' to do."""
    _log.info("%s: this worker ends", why)
    os._exit(0 if well else LOST_SCHEDULER)


class Slot(threading.Thread):
    """A thread that does one block at a time."""

    def __init__(
        self, number: int, processor: BlockProcessor, compute: ComputeQueue, link: Client
    ) -> None:
        super().__init__(daemon=True)
        self.done = 0
        self._number = number
        self._processor = processor
        self._compute = compute
        self._link = link

    def run(self) -> None:
        """Ask for blocks, and process and report them, until there are none."""
        while (block := self._link.next(self._number)) is not None:
            self._process(block)
            _bound_log()

    def _process(self, number: int) -> None:
        block = self._processor.plan.numbered_block(number)
        try:
            report = self._processor.process(block, self._compute)
        except Exception as error:  # noqa: BLE001
            # Whatever a block raises fails that block alone; it is recorded and reported.
            trace = traceback.format_exc()
            _log.error("block %d failed:\n%s", number, trace)
            own = isinstance(error, (StageError, FatalError))
            self._link.report(
                self._number,
                Failed(
                    block=number,
                    fatal=isinstance(error, FatalError),
                    error=(str(error) if own else describe(error))[:MAX_TEXT],
                    traceback=trace[-MAX_TEXT:],
                ),
            )
            return
        self.done += 1
        self._link.report(
            self._number,
            Done(
                block=number,
                read=report.read,
                compute=report.compute,
                write=report.write,
                clipped=report.clipped,
                nonfinite=report.nonfinite,
                filled=report.filled,
                skipped=report.skipped,
                note=report.note[:MAX_TEXT],
            ),
        )


def _bound_log() -> None:
    """Begin the log anew if it has grown too large (where the output goes to a file at all)."""
    out = sys.stdout.fileno()
    if os.path.isfile(f"/proc/self/fd/{out}") and os.fstat(out).st_size > MAX_LOG_BYTES:
        os.ftruncate(out, 0)
        print(f"(more than {MAX_LOG_BYTES >> 20} MiB were here, and were removed)", flush=True)
