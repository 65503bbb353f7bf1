"""What a worker said last, for the user who has to know why it died."""

from __future__ import annotations

from pathlib import Path

LINES = 15


def last_words(logs: Path, name: str) -> str:
    """The end of the newest log of a worker or job, `NAME.*` or `NAME-HOST.log`."""
    # The queue's own report, which some write beside the log, says less.
    files = [
        (f.stat().st_size > 0, f.suffix == ".log", f.stat().st_mtime, f)
        for f in (*logs.glob(f"{name}-*"), *logs.glob(f"{name}.*"))
    ]
    if not files:
        return f"It left no log in {logs}."
    log = max(files)[-1]
    lines = log.read_text(errors="replace").splitlines()[-LINES:]
    tail = "\n".join(f"  {line}" for line in lines) or "  (it is empty)"
    return f"Its log {log} ends with:\n{tail}"
