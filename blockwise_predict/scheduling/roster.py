"""Which workers may join a run, and the numbers they get."""

from __future__ import annotations

import time
from collections.abc import Container

from blockwise_predict.config.version import __version__
from blockwise_predict.scheduling.members import Member, Membership
from blockwise_predict.scheduling.transport.messages import PROTOCOL, Hello


class Roster:
    """Numbers of the workers of run `run` that are present or may reconnect, by process.

    New workers get the number they ask for, or the next free one from `first_number` on. A worker
    is identified by `Hello.process`. `membership` is a snapshot of all workers that ever joined.
    """

    def __init__(self, run: str, first_number: int) -> None:
        self.membership = Membership()
        self._run = run
        self._next = first_number
        self._numbers: dict[str, int] = {}
        # Processes that exceeded the block timeout, and may not reconnect.
        self._banned: set[str] = set()

    def number_of(self, process: str) -> int | None:
        """The number of a worker that is present or may reconnect."""
        return self._numbers.get(process)

    def refusal(self, hello: Hello) -> str | None:
        """Why a worker may not join; None if it may."""
        if hello.process in self._banned:
            return "it took too long for a block, which another worker does now"
        if hello.run != self._run:
            return f"it works on another run: {hello.run}, and this is {self._run}"
        if (hello.protocol, hello.version) != (PROTOCOL, __version__):
            return (
                f"it is blockwise-predict {hello.version}, and the scheduler is {__version__}: "
                "install the same version on both"
            )
        return None

    def add(self, process: str, wanted: int | None, taken: Container[int], job: str) -> int:
        """Add a new worker; returns its number: the `wanted` one unless that is `taken`, else the
        next one that no worker has had."""
        number = wanted
        if number is None or number in taken:
            while self._next in self.membership.workers or self._next in taken:
                self._next += 1
            number = self._next
        self._numbers[process] = number
        self.membership = self.membership.with_worker(number, job, time.monotonic())
        return number

    def remove(self, number: int, *, ban: bool = False) -> None:
        """Remove a worker for good; `ban` it to keep its process from reconnecting."""
        processes = {process for process, n in self._numbers.items() if n == number}
        for process in processes:
            del self._numbers[process]
        if ban:
            self._banned |= processes
        self.membership = self.membership.without_worker(number)


def member_of(hello: Hello, number: int) -> Member:
    """The worker that says hello, under its number."""
    job = f", job {hello.job}" if hello.job else ""
    return Member(
        number,
        name=f"{hello.host}, process {hello.pid}{job}",
        slots=hello.slots,
        host=hello.host,
        job=hello.job,
        device=hello.device,
        log=hello.log,
    )
