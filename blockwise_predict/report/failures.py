"""The errors of a run, those that are alike together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blockwise_predict.records.ledger import State
from blockwise_predict.report.record import RunRecord

# Maximum number of kinds of errors that are listed.
MAX_KINDS = 30
_NUMBERS = re.compile(r"\d+(\.\d+)?")


@dataclass
class ErrorKind:
    """Errors that differ in numbers only: how many, and the first of them in the order of blocks.

    `roi` is in world units, and `log` the log of the first one's worker, None if it is not known.
    """

    error: str
    count: int
    block: int
    roi: str
    traceback: str
    log: str | None = None


def failure_kinds(record: RunRecord) -> list[ErrorKind]:
    """The last errors of the blocks that failed for good, the most frequent first."""
    failed = {int(n) for n in (record.trace.states == State.FAILED).nonzero()[0]}
    recorded = (
        ErrorKind(one.error, 1, block, record.grid.where(block), one.traceback, one.log)
        for block, one in sorted(record.failures.items())
        if block in failed
    )
    return _grouped(recorded)


def retried_kinds(record: RunRecord) -> list[ErrorKind]:
    """The errors of attempts at blocks that have not failed for good."""
    return _grouped(_attempts(record))


def _attempts(record: RunRecord) -> Iterator[ErrorKind]:
    """The errors that are kept in a run's events."""
    failed = record.trace.states == State.FAILED
    for event in record.events:
        block, error, trace = (event.get(key) for key in ("block", "error", "traceback"))
        if event["event"] != "error" or not isinstance(error, str):
            continue
        if type(block) is int and 0 <= block < len(failed) and not failed[block]:
            roi = record.grid.where(block)
            yield ErrorKind(error, 1, block, roi, trace if isinstance(trace, str) else "")


def _grouped(errors: Iterable[ErrorKind]) -> list[ErrorKind]:
    kinds: dict[str, ErrorKind] = {}
    for one in errors:
        key = _NUMBERS.sub("#", one.error)
        if key in kinds:
            kinds[key].count += 1
        else:
            kinds[key] = one
    return sorted(kinds.values(), key=lambda kind: -kind.count)
