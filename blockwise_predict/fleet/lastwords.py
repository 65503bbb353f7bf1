"""What a worker said last, for the user who has to know why it died."""

from __future__ import annotations

from pathlib import Path

LINES = 15


def last_words(logs: Path, name: str) -> str:
    """The end of the newest log of a worker or job; logs begin with its name."""
    files = sorted(logs.glob(f"{name}*"), key=lambda file: file.stat().st_mtime)
    if not files:
        return f"It left no log in {logs}."
    # The queue's own report, which some write beside the log, says less.
    log = next((file for file in reversed(files) if file.stat().st_size), files[-1])
    lines = log.read_text(errors="replace").splitlines()[-LINES:]
    tail = "\n".join(f"  {line}" for line in lines) or "  (it is empty)"
    return f"Its log {log} ends with:\n{tail}"
