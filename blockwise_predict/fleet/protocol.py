"""The interface that every kind of fleet has."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from blockwise_predict.fleet.waiting import StopNow
from blockwise_predict.scheduling.members import Changes, Membership


class Fleet(Protocol):
    """Starts workers, watches them, replaces those that end, and finally terminates them.

    `listens_on` is the address at which its workers reach the scheduler: loopback if they run on
    this machine. It numbers its own workers below `first_free`; others get numbers from there on.

    All methods are called by the main thread. Those that take `stop_now` return within a second or
    two after that turns true; the others return at once, whatever processes and queues do.
    """

    size: int
    listens_on: str
    first_free: int

    def start(self, stop_now: StopNow) -> None:
        """Start all workers. Raises ConfigError if they cannot be started."""

    def check(self, membership: Membership) -> Changes:
        """Replace workers that ended. To be called several times a second, until `finish`.

        Raises RunFailedError when replacing is hopeless; not after `drain`.
        """

    def scale(self, size: int, membership: Membership) -> Changes:
        """Keep a different number of workers."""

    def end_workers(self, numbers: Collection[int], membership: Membership) -> None:
        """Terminate evicted workers."""

    def drain(self, membership: Membership) -> None:
        """Start no more workers, and terminate those that have not joined yet."""

    def finish(self, membership: Callable[[], Membership], stop_now: StopNow) -> None:
        """Wait for workers to end when there are no more blocks; `membership` gives the latest."""

    def kill(self, stop_now: StopNow) -> None:
        """Terminate all workers, and make sure that none is left."""

    def abandon(self) -> None:
        """Another scheduler has taken over: terminate only workers that it cannot reach."""
