"""Warnings of a run, for the user and for its records."""

from __future__ import annotations

from blockwise_predict.records import RunDir
from blockwise_predict.run.reporter import Reporter

# Maximum number of warnings that are shown; further ones are only recorded as events.
MAX_WARNINGS = 20


class RecordedWarnings:
    """Records warnings as events, and shows the first ones."""

    def __init__(self, run_dir: RunDir, report: Reporter) -> None:
        self._run_dir = run_dir
        self._report = report
        self._shown = 0

    def __call__(self, text: str) -> None:
        try:
            self._run_dir.events.write("warning", text=text)
            recorded = True
        except OSError:
            recorded = False
        self._shown += 1
        # A warning that cannot be recorded, for example on a full disk, is always shown.
        if self._shown <= MAX_WARNINGS or not recorded:
            self._report.warn(text)
        if self._shown == MAX_WARNINGS:
            self._report.warn(f"further warnings go to {self._run_dir.path / 'events.jsonl'}")
