"""One thread for all that a process computes.

OpenMP keeps a team of threads for every thread that computes. With two of those there are more
threads than cores, and then they fall asleep after every loop instead of awaiting the next one: on
two cores, networks took 10 to 30 % longer (torch 2.13, GNU OpenMP's `gomp_throttled_spin_count`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
POLL_S = 0.05


class Turn(Protocol):
    """Has work done where it may be done, and gives what it returns or raises."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Do `work`."""


def at_once(work: Callable[[], T]) -> T:
    """The turn of a thread that computes itself."""
    return work()


class Turns:
    """Many threads' work, done by the one thread that calls `serve`, one piece after another."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def __call__(self, work: Callable[[], T]) -> T:
        """Have `work` done, and wait for what it returns or raises."""
        future: Future[T] = Future()
        self._waiting.put((future, work))
        try:
            return future.result()
        finally:
            # An exception knows this frame, and would otherwise keep itself and all it refers to.
            del future

    def serve(self, going_on: Callable[[], bool]) -> None:
        """Do what comes, while `going_on()`."""
        while going_on():
            try:
                future, work = self._waiting.get(timeout=POLL_S)
            except Empty:
                continue
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001  raised in the thread that waits for it
                future.set_exception(error)
            # What failed must not keep its memory until there is other work.
            del future, work
