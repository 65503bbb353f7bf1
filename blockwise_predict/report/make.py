"""Making the report of a run, once or again and again while it goes on."""

from __future__ import annotations

import time
from pathlib import Path

from blockwise_predict.config.price import Price
from blockwise_predict.errors import ConfigError
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.report.blockgrid import BlockGrid
from blockwise_predict.report.compose import page_values
from blockwise_predict.report.page.render import render
from blockwise_predict.report.quality.check import Progress, QualityChecker
from blockwise_predict.report.record import read_run
from blockwise_predict.report.trace import trace_rows
from blockwise_predict.report.write import check_replaceable, replace, trace_file

# Interval between two reports of a run that goes on (seconds).
WATCH_S = 30


class ReportMaker:
    """Makes reports of a run in one file, with the trace beside it.

    `progress` is called with how much of the sample has been read, and how much there is. Raises
    ConfigError for a file of another kind than `.html`, and RunStateError for one that is no
    report.
    """

    def __init__(
        self,
        run_dir: RunDir,
        plan: Plan,
        file: Path | None,
        *,
        price: Price | None = None,
        progress: Progress = lambda _, __: None,
    ) -> None:
        self.file = file or run_dir.path / "report.html"
        if self.file.suffix != ".html":
            raise ConfigError(f"--file {self.file}: a report is a file named NAME.html.")
        self.trace = trace_file(self.file)
        for own in (self.file, self.trace):
            check_replaceable(own)
        self._run_dir, self._plan, self._price = run_dir, plan, price
        self._checker = QualityChecker(plan, BlockGrid(plan))
        self._progress = progress

    def make(self, *, watch: bool = False) -> bool:
        """Write the report and the trace as of now; returns whether the run goes on.

        If one is to `watch` and the run goes on, the page reloads itself.
        """
        record = read_run(self._run_dir, self._plan)
        reload = WATCH_S if watch and record.running else None
        quality = self._checker.check(record.trace, self._progress)
        values = page_values(
            record, quality, price=self._price, reload=reload, trace_name=self.trace.name
        )
        replace(self.trace, trace_rows(record.trace, record.grid, record.block_hosts))
        replace(self.file, [render(values)])
        return record.running

    def watch(self) -> None:
        """Write the report every WATCH_S seconds until the run ends."""
        while self.make(watch=True):
            time.sleep(WATCH_S)
