"""What a worker said last, for the user who has to know why it died."""

from __future__ import annotations

import tempfile
from pathlib import Path

LINES = 15
# A log is not written in smaller steps than a block of the file system (bytes).
_TRIAL_BYTES = 4096


def last_words(logs: Path, name: str) -> str:
    """The end of the newest log of a worker or job, `NAME.*` or `NAME-HOST.log`.

    Where there is nothing to read, it says why, if the disk is the reason.
    """
    # The queue's own report, which some write beside the log, says less.
    files = [
        (f.stat().st_size > 0, f.suffix == ".log", f.stat().st_mtime, f)
        for f in (*logs.glob(f"{name}-*"), *logs.glob(f"{name}.*"))
    ]
    if not files:
        return f"It left no log in {logs}{_because(logs)}."
    log = max(files)[-1]
    lines = log.read_text(errors="replace").splitlines()[-LINES:]
    if not lines:
        return f"Its log {log} is empty{_because(logs) or ': it ended before it said anything'}."
    tail = "\n".join(f"  {line}" for line in lines)
    return f"Its log {log} ends with:\n{tail}"


def _because(logs: Path) -> str:
    """Why nothing can be written to a folder; empty if something can."""
    try:
        # Free space alone says nothing of quotas.
        with tempfile.TemporaryFile(dir=logs, buffering=0) as trial:
            trial.write(bytes(_TRIAL_BYTES))
    except OSError as error:
        return f", since nothing can be written there ({error.strerror}): make room"
    return ""
