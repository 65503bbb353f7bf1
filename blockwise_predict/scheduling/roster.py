"""Who is who: the numbers of a run's workers, by the marks of their processes."""

from __future__ import annotations

import time
from collections.abc import Container

from blockwise_predict.scheduling.members import Attendance


class Roster:
    """Workers that are here or may come back, from the first number that the scheduler gives.

    `attendance` is a snapshot of all that ever joined.
    """

    def __init__(self, first_number: int) -> None:
        self.attendance = Attendance()
        self._next = first_number
        self._numbers: dict[str, int] = {}
        # Marks of workers that were too slow for a block, and may not come back.
        self._barred: set[str] = set()

    def number_of(self, mark: str) -> int | None:
        """The number of a worker that is here or may come back."""
        return self._numbers.get(mark)

    def is_barred(self, mark: str) -> bool:
        """Whether a worker may not come back."""
        return mark in self._barred

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
