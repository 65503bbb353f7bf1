"""Writing a report and its trace: only over files that are reports and traces themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from blockwise_predict.errors import RunStateError
from blockwise_predict.records.files import FILE_MODE
from blockwise_predict.report.trace import COLUMNS

# What a report has in its first lines, and a trace in its first.
GENERATOR = "blockwise-predict report"
_MARKS = {".html": f'<meta name="generator" content="{GENERATOR}', ".csv": ",".join(COLUMNS)}
_HEAD_BYTES = 4096


def trace_file(report: Path) -> Path:
    """Where the trace of a report goes: `trace.csv` beside `report.html`, and beside a report of
    another name a file of that name."""
    name = "trace.csv" if report.name == "report.html" else f"{report.stem}.trace.csv"
    return report.with_name(name)


def check_replaceable(file: Path) -> None:
    """Raise RunStateError unless a file can be written, and does not exist or is ours."""
    try:
        with open(file, "rb") as handle:
            head = handle.read(_HEAD_BYTES).decode(errors="replace")
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise RunStateError(f"--file {file}: there is no folder {file.parent}.") from None
        return
    except OSError as error:
        raise RunStateError(f"{file} cannot be replaced: {error.strerror}.") from None
    if head and _MARKS[file.suffix] not in head:
        raise RunStateError(
            f"{file} exists, and predict report has not made it: it is not replaced. Remove it, or "
            "name another one with --file."
        )


def replace(file: Path, text: Iterable[str]) -> None:
    """Replace a file by a text in parts. Raises RunStateError if it cannot be written."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with open(descriptor, "w", encoding="utf-8") as handle:
            handle.writelines(text)
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunStateError(
            f"{file} cannot be written: {error.strerror}. Name another one with --file."
        ) from None
