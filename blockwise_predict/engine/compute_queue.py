"""Runs all computation of a process on one thread.

OpenMP keeps a team of threads for each thread that computes. With two teams there are more threads
than cores, and then OpenMP threads sleep after every loop instead of spinning until the next: on
two cores networks took 10 to 30 % longer (torch 2.13, GNU OpenMP's `gomp_throttled_spin_count`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
POLL_S = 0.05


class Compute(Protocol):
    """Runs a function on the thread that computes; returns or raises what the function does."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Run `work` and wait for it."""


def compute_inline(work: Callable[[], T]) -> T:
    """A `Compute` that runs `work` on the calling thread."""
    return work()


class ComputeQueue:
    """A `Compute` for many threads: `serve` runs their work, one item at a time."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def __call__(self, work: Callable[[], T]) -> T:
        """Queue `work` and wait for it; see `Compute`."""
        future: Future[T] = Future()
        self._queue.put((future, work))
        try:
            return future.result()
        finally:
            # An exception refers to this frame, and so to itself: the cycle would keep its memory.
            del future

    def serve(self, keep_going: Callable[[], bool]) -> None:
        """Run queued work on the calling thread for as long as `keep_going()`."""
        while keep_going():
            try:
                future, work = self._queue.get(timeout=POLL_S)
            except Empty:
                continue
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001  raised in the thread that waits for it
                future.set_exception(error)
            # Work that failed must not keep its memory until the next item arrives.
            del future, work
