"""A run's events, one JSON object per line, in files of bounded size."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from blockwise_predict.records.atomic import append_line, json_lines
from blockwise_predict.records.event_text import event_text

_LOGGER = logging.getLogger(__name__)

MAX_BYTES = 8 << 20
# Longer texts lose their beginning, since a traceback's end says what went wrong.
MAX_TEXT = 8000
# Latest time that can be shown as a date (seconds since 1970; year 5138).
MAX_TIME = 1e11
# The fields of events about a worker, and their types.
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "join": {"worker": (int,), "name": (str,), "log": (str, type(None))},
    "error": {"worker": (int,), "block": (int,), "error": (str,)},
    "leave": {"worker": (int,), "why": (str,), "cause": (str, type(None))},
    "exit": {"worker": (int,), "how": (str,)},
}

Listener = Callable[[str, dict[str, Any]], None]


class EventLog:
    """Appends events to `events.jsonl`; when that is full it becomes `events.1.jsonl`."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, *, trusted: bool = False) -> None:
        self._file = folder / "events.jsonl"
        self._older = folder / "events.1.jsonl"
        self._max = max_bytes
        self._trusted = trusted
        # Between threads; no other process writes.
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []

    def write(self, kind: str, **fields: Any) -> None:
        """Append an event and its time."""
        cut = {k: v[-MAX_TEXT:] if isinstance(v, str) else v for k, v in fields.items()}
        if _LOGGER.isEnabledFor(logging.DEBUG) and (text := event_text(kind, fields)):
            _LOGGER.debug("%s", text)
        for hear in self._listeners:
            hear(kind, fields)
        line = json.dumps({"event": kind, "time": round(time.time(), 3), **cut})
        with self._lock:
            self._append(line)

    @contextlib.contextmanager
    def listener(self, hear: Listener) -> Iterator[None]:
        """Have `hear` called with the kind and the fields of each event, by whoever writes it."""
        self._listeners.append(hear)
        try:
            yield
        finally:
            self._listeners.remove(hear)

    def _append(self, line: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(self._file).st_size + len(line) + 1 > self._max:
                os.replace(self._file, self._older)
        append_line(self._file, line, trusted=self._trusted)

    def read(self) -> Iterator[dict[str, Any]]:
        """All events that are kept, oldest first. Other lines are skipped: a kill may have
        truncated them."""
        for file in (self._older, self._file):
            yield from filter(_is_event, json_lines(file, trusted=self._trusted))


def _is_event(value: dict[str, Any]) -> bool:
    kind, when = value.get("event"), value.get("time")
    return isinstance(kind, str) and isinstance(when, int | float) and 0 <= when < MAX_TIME


def is_worker_event(event: dict[str, Any]) -> bool:
    """Whether an event is about a worker, and has all fields of its kind."""
    fields = _FIELDS.get(event["event"])
    return fields is not None and all(
        type(event.get(key)) in kinds for key, kinds in fields.items()
    )
