"""What a run asks of its fleet, whatever kind it is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from blockwise_predict.scheduling.members import Attendance, Changes


class Fleet(Protocol):
    """What the scheduler asks of a fleet.

    `listens_on` is the address at which its workers reach the scheduler: loopback if they run on
    this machine. It numbers its own workers below `first_free`; others get numbers from there.

    All of it is called by the main thread. What does not take a `hurry` returns at once, whatever
    processes and queues do; the rest within a second or two from when there is one.
    """

    size: int
    listens_on: str
    first_free: int

    def start(self, hurry: Callable[[], bool]) -> None:
        """Start all workers. Raises ConfigError if that cannot be."""

    def check(self, attendance: Attendance) -> Changes:
        """Replace workers that ended. To be called every moment, until `finish`.

        Raises RunFailedError when replacing is hopeless; not after `drain`.
        """

    def scale(self, size: int, attendance: Attendance) -> Changes:
        """Keep another number of workers."""

    def end_workers(self, numbers: Collection[int], attendance: Attendance) -> None:
        """Terminate workers that are lost."""

    def drain(self, attendance: Attendance) -> None:
        """No more workers are wanted: end those that have not joined yet."""

    def finish(self, attendance: Callable[[], Attendance], hurry: Callable[[], bool]) -> None:
        """Wait for workers that have no more work; `attendance` gives the latest."""

    def kill(self, hurry: Callable[[], bool]) -> None:
        """End the workers at once, and see to it that none is left."""

    def abandon(self) -> None:
        """Another scheduler has taken over: end what only this one can end, and nothing else."""
