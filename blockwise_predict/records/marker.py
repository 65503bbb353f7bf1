"""What in a folder belongs to a run: the marker file that a run leaves, and the files that runs
write.

Nothing is deleted in a folder without a marker, and only what runs write is ever deleted.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from blockwise_predict.config.version import __version__
from blockwise_predict.errors import RunStateError
from blockwise_predict.records.files import check_own, open_record
from blockwise_predict.records.ledger import is_ledger

MARKER = "predict-run.json"
PYRAMID_FOLDER = "pyramid"
_TEXT = (
    "This folder holds the records of a run of blockwise-predict. `predict run --overwrite` "
    "deletes what the run wrote here, and nothing else."
)
_RECORDS = (
    *("plan.json", "identity.json", "config.yaml", "precision.json", "server.json"),
    *("scale.json", "extension.json", "failures.jsonl", "events.jsonl", "events.1.jsonl"),
    *("pyramid.json", "status.json", "report.html", "trace.csv"),
)
# These are kept: who holds the run, and which of its jobs may be in a queue.
_KEPT = (MARKER, "lock", "jobs.json")
_LEDGER = re.compile(r"blocks-[0-9a-f]{8}\.npy")
_LOG = re.compile(r"worker-\d{4,}\.log|slurm-\d+_\d+-[^/]+\.log|lsf-\d+_\d+(-[^/]+\.log|\.out)")
# Temporary files that a kill has left behind.
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(\d+|[0-9a-f]{32})|\.precision\..+\.\d+")
_SHOWN = 5


def mark(folder: Path, *, trusted: bool) -> None:
    """Put the marker into an empty folder, unless it has one. Raises as `check_marked`."""
    check_marked(folder, trusted=trusted)
    text = json.dumps({"about": _TEXT, "version": __version__}, indent=2)
    try:
        descriptor = open_record(
            folder / MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, trusted=trusted
        )
    except FileExistsError:
        return
    with open(descriptor, "w") as handle:
        handle.write(text)


def check_marked(folder: Path, *, trusted: bool) -> None:
    """Raise RunStateError if a folder is neither a run's nor empty, or others can write to it."""
    names = {entry.name for entry in os.scandir(folder)}
    if not trusted:
        check_own(os.stat(folder), folder)
    if MARKER in names or not names or _is_older_run(folder, names):
        return
    shown = ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    raise RunStateError(
        f"{folder} is not a run directory, and holds other files: {shown}. Nothing in it was "
        "touched. Give an empty folder, or one that does not exist, with --run-dir."
    )


def _is_older_run(folder: Path, names: set[str]) -> bool:
    """Whether a folder without a marker is a run's: earlier versions wrote none."""
    return {"plan.json", "identity.json", "lock"} <= names and any(
        _is_ours(folder / name) for name in names if _LEDGER.fullmatch(name)
    )


def ledgers(folder: Path) -> list[str]:
    """Names of the ledgers in a run directory."""
    names = [entry.name for entry in os.scandir(folder) if _LEDGER.fullmatch(entry.name)]
    return [name for name in names if is_ledger(folder / name)]


def remove_records(folder: Path) -> list[str]:
    """Delete what runs have written into a marked folder; returns the names of what is left."""
    left = []
    for name in sorted(entry.name for entry in os.scandir(folder)):
        file = folder / name
        if name == "logs" and file.is_dir() and not file.is_symlink():
            left += [f"logs/{log}" for log in _remove_logs(file)]
        elif name == PYRAMID_FOLDER and (file / MARKER).is_file() and not file.is_symlink():
            left += [f"{name}/{other}" for other in _remove_pyramid(file)]
        elif name not in _KEPT:
            if _is_ours(file):
                file.unlink()
            else:
                left.append(name)
    return left


def _remove_pyramid(folder: Path) -> list[str]:
    """Remove the records of a pyramid, unless some of its jobs may be in a queue."""
    left = remove_records(folder)
    if not left and not (folder / "jobs.json").exists():
        (folder / MARKER).unlink()
        folder.rmdir()
    return left


def _is_ours(file: Path) -> bool:
    if file.is_dir() and not file.is_symlink():
        return False
    if temporary := _TEMPORARY.fullmatch(file.name):
        name = temporary["name"] or "precision.json"
        return name in (*_RECORDS, *_KEPT) or bool(_LEDGER.fullmatch(name))
    return file.name in _RECORDS or (bool(_LEDGER.fullmatch(file.name)) and is_ledger(file))


def _remove_logs(logs: Path) -> list[str]:
    left = []
    for entry in os.scandir(logs):
        if _LOG.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
        else:
            left.append(entry.name)
    if not left:
        logs.rmdir()
    return sorted(left)
