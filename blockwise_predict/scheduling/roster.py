"""Who may join, and who is who: the numbers of a run's workers, by the marks of their processes."""

from __future__ import annotations

import time
from collections.abc import Container

from blockwise_predict import __version__
from blockwise_predict.scheduling.members import Attendance
from blockwise_predict.scheduling.transport.messages import PROTOCOL, Hello


class Roster:
    """Workers of the run `run` that are here or may come back, and the numbers that they get,
    `first_number` or more unless they ask for others.

    `attendance` is a snapshot of all that ever joined.
    """

    def __init__(self, run: str, first_number: int) -> None:
        self.attendance = Attendance()
        self._run = run
        self._next = first_number
        self._numbers: dict[str, int] = {}
        # Marks of workers that were too slow for a block, and may not come back.
        self._barred: set[str] = set()

    def number_of(self, mark: str) -> int | None:
        """The number of a worker that is here or may come back."""
        return self._numbers.get(mark)

    def objection(self, hello: Hello) -> str | None:
        """Why a worker may not join."""
        if hello.process in self._barred:
            return "it took too long for a block, which another worker does now"
        if hello.run != self._run:
            return f"it works on another run: {hello.run}, and this is {self._run}"
        if (hello.protocol, hello.version) != (PROTOCOL, __version__):
            return (
                f"it is blockwise-predict {hello.version}, and the scheduler is {__version__}: "
                "install the same version on both"
            )
        return None

    def enter(self, mark: str, wanted: int | None, taken: Container[int], job: str) -> int:
        """The number of a new worker: the `wanted` one, or the next one that no worker had."""
        number = wanted
        if number is None or number in taken:
            while self._next in self.attendance.workers or self._next in taken:
                self._next += 1
            number = self._next
        self._numbers[mark] = number
        self.attendance = self.attendance.with_worker(number, job, time.monotonic())
        return number

    def remove(self, number: int, *, bar: bool = False) -> None:
        """A worker is gone for good; `bar` it to keep it from coming back."""
        marks = {mark for mark, n in self._numbers.items() if n == number}
        for mark in marks:
            del self._numbers[mark]
        if bar:
            self._barred |= marks
        self.attendance = self.attendance.without_worker(number)
