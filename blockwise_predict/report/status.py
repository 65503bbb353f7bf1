"""How far a run is, and what it has used: from its records, whether it is on or not."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import PREDICTED, UNSELECTED, State, read_records
from blockwise_predict.records.pyramid import pyramid_dir
from blockwise_predict.records.status import Counts, Published, WorkerStatus, published_status
from blockwise_predict.report.history import History, history_of

# The rate now is that of the blocks of so many seconds, or of so many median durations of a block.
RECENT_S, RECENT_BLOCKS = 60.0, 3.0


class Condition(StrEnum):
    """RUNNING: a scheduler is on. COMPLETE: every block is predicted or left out as asked for.
    FAILED: blocks are failed, and none is left to do. STOPPED: blocks are left to do, and no
    scheduler is on.
    """

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class RunStatus:
    """The status of a run.

    output: paths of its arrays.
    time, began, ended: seconds since 1970; `began` is None if it never ran, `ended` while it runs.
    blocks: all that its options select.
    left: blocks that are neither done, failed nor skipped, with those in progress.
    in_progress: blocks that workers hold.
    voxels_per_second_now: None unless it runs and has done a block.
    voxels_per_second: while it was on; None if no block was done.
    precision: what the network computes in; None if no worker has chosen it yet.
    seconds: how long it was on.
    seconds_left: None unless it runs and has done a block.
    workers: those that are there now; workers_wanted: None unless it runs.
    pyramid_blocks_done, pyramid_blocks: of the levels that are being made; 0 if none are.
    """

    output: tuple[str, ...]
    run_dir: str
    condition: Condition
    time: float
    began: float | None
    ended: float | None
    blocks: int
    done: int
    failed: int
    skipped: int
    empty: int
    left: int
    in_progress: int
    voxels: int
    voxels_done: int
    voxels_per_second_now: float | None
    voxels_per_second: float | None
    precision: str | None
    seconds: float
    seconds_left: float | None
    worker_hours: float
    node_hours: float
    workers_wanted: int | None
    workers: tuple[WorkerStatus, ...]
    pyramid_blocks_done: int = 0
    pyramid_blocks: int = 0


@dataclass(frozen=True)
class Moment:
    """What the records of a run say at one moment, in seconds since 1970.

    records: the ledger's, in the shape of the grid of blocks.
    published: what the scheduler that is on has published; None if none is, or it has not yet.
    """

    time: float
    running: bool
    records: NDArray[np.void]
    events: list[dict[str, Any]]
    published: Published | None
    history: History


def read_moment(run_dir: RunDir, plan: Plan, *, running: bool) -> Moment:
    """Read the records of a run; `running`: its lock is held. Writes nothing.

    Raises RunStateError for damaged records.
    """
    records = read_records(run_dir.ledger_file(plan), plan.blocks_per_axis, trusted=run_dir.trusted)
    events = list(run_dir.events.read())
    published = published_status(run_dir.path, trusted=run_dir.trusted)
    history = history_of(run_dir, events, records, published, running=running)
    if published is not None and (not running or published.time < history.sessions[-1][0]):
        # It is of an earlier session.
        published = None
    return Moment(time.time(), running, records, events, published, history)


def run_status(run_dir: RunDir, plan: Plan, moment: Moment) -> RunStatus:
    """The status of a run at a moment. Raises RunStateError for damaged records."""
    running, history, published = moment.running, moment.history, moment.published
    records, states, voxels = moment.records, moment.records["state"], plan.block_voxels
    done = np.isin(states, PREDICTED)
    to_do = states == State.TODO
    selected = ~np.isin(states, UNSELECTED)
    overall = _rate(int(voxels[done & (records["ended"] > 0)].sum()), history.seconds)
    recent = _recent_rate(records, voxels, history, moment.time) if running else None
    left = int(voxels[to_do].sum())
    pace = recent or overall
    making = published_status(pyramid_dir(run_dir).path, trusted=run_dir.trusted)
    levels = Counts(0, 0, 0, 0) if making is None else making.counts
    workers = () if published is None else published.workers
    if making is not None and running and levels.done < levels.total:
        # Their rates are of other blocks.
        workers = tuple(replace(worker, rate=None) for worker in making.workers)
    return RunStatus(
        output=tuple(array.path for array in plan.output.arrays),
        run_dir=str(run_dir),
        condition=_condition(states, running=running),
        time=moment.time,
        began=history.sessions[0][0] if history.sessions else None,
        ended=history.sessions[-1][1] if history.sessions and not running else None,
        blocks=int(selected.sum()),
        done=int(done.sum()),
        failed=int((states == State.FAILED).sum()),
        skipped=int((states == State.SKIPPED).sum()),
        empty=int((states == State.EMPTY).sum()),
        left=int(to_do.sum()),
        in_progress=0 if published is None else published.counts.processing,
        voxels=int(voxels[selected].sum()),
        voxels_done=int(voxels[done].sum()),
        voxels_per_second_now=recent,
        voxels_per_second=overall,
        precision=_precision(run_dir, plan),
        seconds=history.seconds,
        seconds_left=left / pace if running and pace else None,
        worker_hours=history.worker_hours,
        node_hours=history.node_hours,
        workers_wanted=None if published is None else published.wanted,
        workers=workers,
        pyramid_blocks_done=levels.done,
        pyramid_blocks=levels.total,
    )


def _precision(run_dir: RunDir, plan: Plan) -> str | None:
    if plan.precision != "auto":
        return plan.precision
    chosen = run_dir.precision()
    return None if chosen is None else chosen.precision


def _condition(states: NDArray[np.uint8], *, running: bool) -> Condition:
    if running:
        return Condition.RUNNING
    if (states == State.TODO).any():
        return Condition.STOPPED
    return Condition.FAILED if (states == State.FAILED).any() else Condition.COMPLETE


def _rate(voxels: int, seconds: float) -> float | None:
    return voxels / seconds if voxels and seconds > 0 else None


def _recent_rate(
    records: NDArray[np.void], voxels: NDArray[np.int64], history: History, now: float
) -> float | None:
    """Voxels per second lately, in the session that is on."""
    began = history.sessions[-1][0] if history.sessions else now
    ended = np.where(np.isin(records["state"], PREDICTED), records["ended"], 0.0)
    current = ended >= began
    if not current.any():
        return None
    window = max(RECENT_S, RECENT_BLOCKS * float(np.median(records["took"][current])))
    since = max(began, now - window)
    return _rate(int(voxels[ended >= since].sum()), now - since)
