"""A fleet of one worker whose slots are threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from blockwise_predict.engine.compute_queue import compute_inline
from blockwise_predict.errors import PredictError, RunFailedError
from blockwise_predict.fleet.waiting import StopNow, wait_until
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.client import Client, ClientOptions
from blockwise_predict.scheduling.members import Changes, Membership
from blockwise_predict.worker.report import Processor, report_on

# Time for the threads to end by themselves when there are no more blocks (seconds).
EXIT_GRACE_S = 10.0
# Time for which they look for the scheduler, which may be slow to answer (seconds).
WAIT_S = 60.0


class ThreadFleet:
    """Processes blocks in `slots` threads. They need no start, and share what is opened.

    Only for processors that do not need to compute on one thread.
    """

    def __init__(self, run_dir: RunDir, processor: Processor, slots: int) -> None:
        self.size = self.first_free = 1
        self.listens_on = "127.0.0.1"
        self._run_dir = run_dir
        self._processor = processor
        self._slots = slots
        self._lost = ""
        self._worker = threading.Thread(target=self._work, daemon=True, name="worker")

    def _work(self) -> None:
        options = ClientOptions(self._run_dir.run_id(), number=0, slots=self._slots, wait=WAIT_S)
        try:
            client = Client(self._run_dir.address, options, threading.Event(), self._end)
        except PredictError as error:
            self._lost = str(error)
            return
        threads = [
            threading.Thread(target=self._serve, args=(client, slot), daemon=True)
            for slot in range(self._slots)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()

    def _serve(self, client: Client, slot: int) -> None:
        while (block := client.next(slot)) is not None:
            client.report(slot, report_on(self._processor, block, compute_inline))

    def _end(self, reason: str, _: bool) -> None:
        self._lost = reason

    def start(self, stop_now: StopNow) -> None:  # noqa: ARG002
        """Start the threads."""
        self._worker.start()

    def check(self, membership: Membership) -> Changes:  # noqa: ARG002
        """Raise RunFailedError if the threads have lost the scheduler."""
        if self._lost:
            raise RunFailedError(f"the threads of this process cannot go on: {self._lost}")
        return Changes()

    def scale(self, size: int, membership: Membership) -> Changes:  # noqa: ARG002
        """There is one worker, whatever number is asked for."""
        self.size = size
        return Changes()

    def end_workers(self, numbers: Collection[int], membership: Membership) -> None:  # noqa: ARG002
        """A thread cannot be ended. Raises RunFailedError."""
        raise RunFailedError(
            "a block took longer than --block-timeout, or this process was stalled. Run the same "
            "command again; --workers starts worker processes, which are replaced if they hang."
        )

    def drain(self, membership: Membership) -> None:
        """The scheduler has told the threads already."""

    def finish(self, membership: Callable[[], Membership], stop_now: StopNow) -> None:  # noqa: ARG002
        """Wait for the threads to end when there are no more blocks."""
        wait_until(lambda: not self._worker.is_alive(), EXIT_GRACE_S, stop_now)

    def kill(self, stop_now: StopNow) -> None:
        """Threads that still run have lost the scheduler, and end after their blocks."""

    def abandon(self) -> None:
        """As `kill`."""
