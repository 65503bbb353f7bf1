"""A run's events, one JSON object per line, in files of bounded size."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blockwise_predict.records.atomic import append_line, json_lines

MAX_BYTES = 8 << 20
# A traceback's end says what went wrong.
MAX_TEXT = 8000
# Seconds since 1970, in the year 5138: what the calendar can show.
MAX_TIME = 1e11
# Of events that tell of a worker.
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "join": {"worker": (int,), "name": (str,), "log": (str, type(None))},
    "error": {"worker": (int,), "block": (int,), "error": (str,)},
    "leave": {"worker": (int,), "why": (str,), "cause": (str, type(None))},
    "exit": {"worker": (int,), "how": (str,)},
}


class EventLog:
    """Appends events to `events.jsonl`; when that is full it becomes `events.1.jsonl`."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, *, trusted: bool = False) -> None:
        self._file = folder / "events.jsonl"
        self._older = folder / "events.1.jsonl"
        self._max = max_bytes
        self._trusted = trusted
        # Of this process's threads; no other process writes.
        self._lock = threading.Lock()

    def write(self, kind: str, **fields: Any) -> None:
        """Append an event with the time."""
        cut = {k: v[-MAX_TEXT:] if isinstance(v, str) else v for k, v in fields.items()}
        line = json.dumps({"event": kind, "time": round(time.time(), 3), **cut})
        with self._lock:
            self._append(line)

    def _append(self, line: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(self._file).st_size + len(line) + 1 > self._max:
                os.replace(self._file, self._older)
        append_line(self._file, line, trusted=self._trusted)

    def read(self) -> Iterator[dict[str, Any]]:
        """All events that are kept, oldest first. What is no event is left out: a kill may have cut
        it short."""
        for file in (self._older, self._file):
            yield from filter(_is_event, json_lines(file, trusted=self._trusted))


def _is_event(value: dict[str, Any]) -> bool:
    kind, when = value.get("event"), value.get("time")
    return isinstance(kind, str) and isinstance(when, int | float) and 0 <= when < MAX_TIME


def tells_of_worker(event: dict[str, Any]) -> bool:
    """Whether an event is one that tells of a worker, with all that such events have."""
    fields = _FIELDS.get(event["event"])
    return fields is not None and all(
        type(event.get(key)) in kinds for key, kinds in fields.items()
    )
