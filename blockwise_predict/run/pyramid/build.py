"""Making the levels of arrays, blockwise, by the same scheduler and fleets as predictions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np

from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.version import __version__
from blockwise_predict.errors import RunFailedError, as_records_error
from blockwise_predict.fleet import cancel_leftovers, check_fleet, job_settings, make_fleet
from blockwise_predict.fleet.protocol import Fleet
from blockwise_predict.io import open_output
from blockwise_predict.io.downsampled import Method
from blockwise_predict.plan.pyramid import PyramidPlan
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import PREDICTED, Ledger, State
from blockwise_predict.records.pyramid import begin_pyramid, is_recorded
from blockwise_predict.records.status import Counts
from blockwise_predict.run.pyramid.steps import Step, prepare_steps, steps_of
from blockwise_predict.run.pyramid.threads import ThreadFleet
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.stop import StopRequest
from blockwise_predict.run.supervision import Job, run_blocks
from blockwise_predict.run.warnings import RecordedWarnings
from blockwise_predict.scheduling.stages import StagedBlocks
from blockwise_predict.worker.level_block import LevelProcessor

MAX_THREADS = 8
# Memory for the blocks that threads of this process make at the same time.
THREADS_BYTES = 2 << 30


@dataclass(frozen=True)
class Builders:
    """Who makes the blocks: workers as `config` asks for, or threads of this process."""

    config: RunConfig
    threads: bool


@dataclass(frozen=True)
class Watch:
    """What a pyramid reports to, and what may end it early.

    `progress` gets the numbers of blocks done and of all; `check_lock` raises LockLostError.
    """

    report: Reporter = field(default_factory=Reporter)
    progress: Callable[[int, int], None] = lambda _done, _total: None
    stop: StopRequest = field(default_factory=StopRequest)
    check_lock: Callable[[], None] = lambda: None


def build_levels(
    methods: Mapping[str, Method],
    count: int | None,
    *,
    records: RunDir,
    builders: Builders,
    watch: Watch,
) -> bool:
    """Make the levels of outputs that are missing; whether all are complete now.

    `methods` are those of each output, by its path. `count` levels; by default until one fits into
    a chunk. Levels made by another method are replaced. The outputs must be complete and stay as
    they are. `records` are the pyramid's own. Raises ArrayError if levels cannot be made there, and
    RunFailedError if blocks failed.
    """
    tell = watch.report.line
    steps = [s for path, method in methods.items() for s in steps_of(path, method, count, tell)]
    if all(step.listed for step in steps):
        _cancel_jobs(records, None, watch, keep=False)
        return True
    check_fleet(builders.config, records, watch.report.warn)
    levels = tuple(prepare_steps(steps))
    plan = PyramidPlan(version=__version__, levels=levels, slots=_slots(levels[0].path, builders))
    with records.usable():
        settings = None if builders.threads else job_settings(builders.config)
        _cancel_jobs(records, settings, watch, keep=is_recorded(records, plan))
        ledger = begin_pyramid(records, plan)
    with closing(ledger):
        _note_complete(steps, plan, ledger)
        listing = _Listing(steps, plan, ledger, watch)
        _run(plan, records, ledger, builders, watch, listing)
        return listing.complete


def _cancel_jobs(
    records: RunDir, settings: dict[str, Any] | None, watch: Watch, *, keep: bool
) -> None:
    """Cancel the jobs that an earlier command left in a queue, or `keep` those with settings."""
    tell, stop_now = watch.report.line, lambda: watch.stop.at_once
    cancel_leftovers(records, settings, tell, stop_now, keep=keep)


def _slots(path: str, builders: Builders) -> int:
    """Number of blocks that a worker makes at a time; of threads, as many as memory allows."""
    if not builders.threads:
        return builders.config.slots
    array = open_output(path)
    block = prod(array.write_shape) * array.channels * array.dtype.itemsize
    return max(1, min(MAX_THREADS, os.cpu_count() or 1, THREADS_BYTES // (4 * block)))


def _note_complete(steps: Sequence[Step], plan: PyramidPlan, ledger: Ledger) -> None:
    """Record all blocks of levels that are listed as done, whoever has made them."""
    states = ledger.states.copy()
    for step, blocks in zip(steps, plan.ranges, strict=True):
        if step.listed:
            states[blocks.start : blocks.stop] = State.DONE
    ledger.set_states(states)


class _Listing:
    """Lists each level once it is complete, and passes on how many blocks are done."""

    def __init__(
        self, steps: Sequence[Step], plan: PyramidPlan, ledger: Ledger, watch: Watch
    ) -> None:
        self._ledger = ledger
        self._watch = watch
        pairs = zip(steps, plan.ranges, strict=True)
        self._left = [(step, blocks) for step, blocks in pairs if not step.listed]

    @property
    def complete(self) -> bool:
        """Whether all levels are listed."""
        self.update()
        return not self._left

    def update(self) -> None:
        """List the levels that have become complete."""
        while self._left:
            step, blocks = self._left[0]
            if not np.isin(self._ledger.states[blocks.start : blocks.stop], PREDICTED).all():
                return
            step.list()
            self._watch.report.line(step.description)
            self._left.pop(0)

    def progress(self, counts: Counts) -> None:
        """What `run_blocks` reports."""
        self.update()
        self._watch.progress(counts.done, counts.total)


def _run(
    plan: PyramidPlan,
    records: RunDir,
    ledger: Ledger,
    builders: Builders,
    watch: Watch,
    listing: _Listing,
) -> None:
    """Make the blocks that are left. Raises RunFailedError if some failed."""
    report, config = watch.report, builders.config
    records.failures.keep(())
    if np.isin(ledger.states, PREDICTED).all():
        return
    records.events.write("begin", version=plan.version)
    warn = RecordedWarnings(records, report)
    fleet: Fleet
    if builders.threads:
        fleet = ThreadFleet(records, LevelProcessor(plan), plan.slots)
    else:
        fleet = make_fleet(config, records, warn)
        if config.workers == 0:
            report.line(f"No workers are started; add them with: predict worker {records}")
    with as_records_error():
        outcome = run_blocks(
            Job(config, partial(StagedBlocks, ledger.states, plan.ranges), plan.where),
            records,
            ledger,
            fleet=fleet,
            progress=listing.progress,
            # Their rates are of other blocks than the prediction's.
            show_workers=lambda _: None,
            warn=warn,
            stop=watch.stop,
            check_lock=watch.check_lock,
        )
        records.events.write("end", done=outcome.counts.done)
    if outcome.counts.failed:
        first = next(iter(records.failures.read().values()))
        raise RunFailedError(
            f"{outcome.counts.failed} blocks of levels could not be made. The first: {first.roi}: "
            f"{first.error}\nThe same command tries them again. Errors and logs are in {records}."
        )
