"""The end of a worker's log, shown to the user who has to find out why it died."""

from __future__ import annotations

import tempfile
from pathlib import Path

LINES = 15
# File systems allocate a log in blocks, so a smaller test write could succeed on a full disk.
_TEST_WRITE_BYTES = 4096


def log_tail(logs: Path, name: str) -> str:
    """The end of the newest log of a worker or job, `NAME.*` or `NAME-HOST.log`, as a sentence.

    If there is nothing to read because the disk cannot be written to, it says so.
    """
    # Some queues write a report of their own beside the log; the log is worth more.
    files = [
        (f.stat().st_size > 0, f.suffix == ".log", f.stat().st_mtime, f)
        for f in (*logs.glob(f"{name}-*"), *logs.glob(f"{name}.*"))
    ]
    if not files:
        return f"It left no log in {logs}{_write_problem(logs)}."
    log = max(files)[-1]
    lines = log.read_text(errors="replace").splitlines()[-LINES:]
    if not lines:
        why = _write_problem(logs) or ": it ended before it wrote anything"
        return f"Its log {log} is empty{why}."
    tail = "\n".join(f"  {line}" for line in lines)
    return f"Its log {log} ends with:\n{tail}"


def _write_problem(logs: Path) -> str:
    """Why nothing can be written to a folder; empty if something can."""
    try:
        # A test write, since free space alone does not account for quotas.
        with tempfile.TemporaryFile(dir=logs, buffering=0) as trial:
            trial.write(bytes(_TEST_WRITE_BYTES))
    except OSError as error:
        return f", since nothing can be written there ({error.strerror}): make room"
    return ""
