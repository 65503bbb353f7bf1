"""The last error of each block that was given up, one line per block."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from blockwise_predict.errors import shortened
from blockwise_predict.records.atomic import append_line, json_lines, write_atomically

# Longer texts lose their middle.
MAX_ERROR = 2000


@dataclass(frozen=True)
class Failure:
    """A block that was given up: its number, its ROI in nm, the number of attempts, and the last
    error with its traceback and the worker's log."""

    block: int
    roi: str
    attempts: int
    error: str
    traceback: str
    log: str | None


_FAILURE = TypeAdapter(Failure)


class FailureRecord:
    """The file of failures, to which the scheduler appends."""

    def __init__(self, file: Path, *, trusted: bool = False) -> None:
        self._file = file
        self._trusted = trusted

    def add(self, failure: Failure) -> None:
        """Append a failure."""
        line = asdict(failure)
        line |= {key: shortened(line[key], MAX_ERROR) for key in ("error", "traceback")}
        append_line(self._file, json.dumps(line), trusted=self._trusted)

    def read(self) -> dict[int, Failure]:
        """The last failure of each block. Other lines are skipped: a kill may have truncated
        them."""
        found = {}
        for value in json_lines(self._file, trusted=self._trusted):
            try:
                failure = _FAILURE.validate_python(value)
            except ValidationError:
                continue
            found[failure.block] = failure
        return found

    def keep(self, blocks: Container[int]) -> None:
        """Forget the failures of all other blocks."""
        kept = [f for f in self.read().values() if f.block in blocks]
        text = "".join(json.dumps(asdict(failure)) + "\n" for failure in kept)
        write_atomically(self._file, text)
