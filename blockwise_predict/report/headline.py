"""The first lines of a report: how a run stands, in a few numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from blockwise_predict.config.price import Price
from blockwise_predict.config.quantities import format_rate, format_seconds
from blockwise_predict.records.ledger import State
from blockwise_predict.report.record import RunRecord
from blockwise_predict.report.status import Condition


@dataclass(frozen=True)
class Fact:
    """A number with its name, and more about it in small print."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class Headline:
    """How a run stands: its `state` in a few words, whether that is `good`, `bad` or neither
    (`warn`), what is missing, and facts."""

    state: str
    kind: str
    missing: str
    facts: list[Fact]


def headline(record: RunRecord, price: Price | None) -> Headline:
    """The headline of a run."""
    status = record.status
    left = record.trace.count(State.TODO)
    state, kind = {
        Condition.RUNNING: ("running", "warn"),
        Condition.COMPLETE: ("complete", "good"),
        Condition.FAILED: ("incomplete: blocks failed", "bad"),
        Condition.STOPPED: ("incomplete: stopped early", "bad"),
    }[status.condition]
    parts = [(left, "not done yet" if record.running else "not done"), (status.failed, "failed")]
    missing = " and ".join(f"{_blocks(number)} {what}" for number, what in parts if number)
    return Headline(state, kind, missing, list(_facts(record, price)))


def _facts(record: RunRecord, price: Price | None) -> Iterator[Fact]:
    status, trace = record.status, record.trace
    others = [
        f"{trace.count(state):,} {state.name.lower()}"
        for state in (State.FILLED, State.SKIPPED, State.EMPTY, State.MASKED, State.OUTSIDE)
        if trace.count(state)
    ]
    blocks = f"{status.done:,} of {status.blocks:,}"
    yield Fact("blocks predicted", blocks, ", ".join(others))
    yield Fact("voxels predicted", _count(status.voxels_done))
    if status.began is not None:
        starts = sum(event["event"] == "begin" for event in record.events)
        yield Fact("begun", moment(status.began), f"started {starts} times" if starts > 1 else "")
        left = status.seconds_left
        more = "" if left is None else f"about {format_seconds(left)} left"
        yield Fact("duration", format_seconds(status.seconds), more)
    if status.voxels_per_second is not None:
        now = status.voxels_per_second_now
        more = "of output" if now is None else f"of output; {format_rate(now)} now"
        yield Fact("rate", format_rate(status.voxels_per_second), more)
    if record.workers:
        lost = sum(worker.losses for worker in record.workers)
        more = f"lost {lost} time{'' if lost == 1 else 's'}" if lost else ""
        yield Fact("workers", f"{len(record.workers):,}", more)
        yield Fact("worker-hours", f"{status.worker_hours:.3g}")
    if price is not None:
        cost = price.text(status.worker_hours)
        yield Fact("cost", cost, f"at {price.text(1)} per worker-hour")


def last_time(record: RunRecord) -> float:
    """The time of the last thing that is recorded, in seconds since 1970; 0 if there is none."""
    ended = record.trace.ended
    events = float(record.events[-1]["time"]) if record.events else 0.0
    return max(events, float(ended.max()) if ended.size else 0.0)


def moment(when: float) -> str:
    """A time (seconds since 1970) in this machine's time zone."""
    return f"{datetime.fromtimestamp(when).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _blocks(number: int) -> str:
    return f"{number:,} block{'' if number == 1 else 's'}"


def _count(voxels: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if voxels >= size:
            return f"{voxels / size:.3g} {unit}voxel"
    return f"{voxels:.0f} voxels"
