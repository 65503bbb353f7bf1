"""Jobs that end before their work is done: which of them are bad luck, and when they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from blockwise_predict.errors import RunFailedError
from blockwise_predict.fleet.lastwords import last_words
from blockwise_predict.fleet.queue import Job

# So many jobs in a row may end, through their own fault, before their worker joins.
FAILED_STARTS = 3
# So many per worker, and so many in all, may end in a row with no block done in between.
FRUITLESS_EACH, FRUITLESS_ALL = 3, 10
# Before jobs are replaced: seconds, twice as long after each that ended without success.
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 120.0
# What the queues call an end that nobody need be told of.
_WELL = ("COMPLETED", "DONE")


class Troubles:
    """Counts the jobs that ended early; `warn` tells the user of them, `logs` holds their logs."""

    def __init__(self, logs: Path, warn: Callable[[str], None]) -> None:
        self._logs = logs
        self._warn = warn
        self._failed_starts = 0
        self._fruitless = 0
        self._done = 0

    @property
    def delay(self) -> float:
        """Seconds to wait before another job is submitted."""
        troubles = max(self._failed_starts, self._fruitless)
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(troubles, 20))

    def ended(self, job: Job, size: int, done: int, *, joined: bool) -> None:
        """One of `size` jobs has ended when `done` blocks were done; whether its worker had joined.

        Raises RunFailedError if another one would be of no use.
        """
        self._fruitless = 0 if done > self._done else self._fruitless + 1
        self._done = done
        if joined:
            self._failed_starts = 0
            if job.what not in _WELL:
                self._warn(f"{_name(job)} ended ({job.what}); another one is submitted.")
        elif job.blameless:
            self._warn(
                f"{_name(job)} ended before its worker joined ({job.what}); another one is "
                "submitted."
            )
        else:
            self.failed_to_start(job, f"ended before its worker joined ({job.what})")
        if self._fruitless > FRUITLESS_EACH * size + FRUITLESS_ALL:
            raise RunFailedError(
                f"{self._fruitless} jobs in a row ended with no block done in between, the last "
                f"one {_name(job)} ({job.what}). {last_words(self._logs, job.key)}"
            )

    def failed_to_start(self, job: Job, what: str) -> None:
        """A job's worker has not joined, through its own fault. Raises as `ended`."""
        self._failed_starts += 1
        if self._failed_starts not in (1, FAILED_STARTS):
            return
        text = f"{_name(job)} {what}. {last_words(self._logs, job.key)}"
        if self._failed_starts < FAILED_STARTS:
            self._warn(text)
            return
        raise RunFailedError(
            f"{FAILED_STARTS} jobs in a row were of no use: no worker joined. The last one: {text}"
        )


def _name(job: Job) -> str:
    return f"job {job.key}" + (f" on {job.host}" if job.host else "")
