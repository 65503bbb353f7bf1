"""The first lines of a report: how a run stands, in a few numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from blockwise_predict.config.price import Price
from blockwise_predict.config.quantities import format_rate, format_seconds
from blockwise_predict.records.ledger import UNSELECTED, State
from blockwise_predict.report.record import RunRecord
from blockwise_predict.report.throughput import Throughput


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


def headline(record: RunRecord, speed: Throughput | None, price: Price | None) -> Headline:
    """The headline of a run."""
    counts = {state: record.trace.count(state) for state in State}
    left, failed = counts[State.TODO], counts[State.FAILED]
    state, kind = "complete", "good"
    if record.running:
        state, kind = "running", "warn"
    elif failed:
        state, kind = "incomplete: blocks failed", "bad"
    elif left:
        state, kind = "incomplete: stopped early", "bad"
    parts = [(left, "not done yet" if record.running else "not done"), (failed, "failed")]
    missing = " and ".join(f"{_blocks(number)} {what}" for number, what in parts if number)
    return Headline(state, kind, missing, _facts(record, counts, speed, price))


def _facts(
    record: RunRecord, counts: dict[State, int], speed: Throughput | None, price: Price | None
) -> list[Fact]:
    trace, voxels = record.trace, record.grid.voxels
    selected = sum(number for state, number in counts.items() if state not in UNSELECTED)
    done = int(trace.predicted.sum())
    others = [
        f"{counts[state]:,} {state.name.lower()}"
        for state in (State.FILLED, State.SKIPPED, State.EMPTY, State.MASKED, State.OUTSIDE)
        if counts[state]
    ]
    facts = [Fact("blocks predicted", f"{done:,} of {selected:,}", ", ".join(others))]
    facts.append(Fact("voxels predicted", _count(float(voxels[trace.predicted].sum()))))
    begun = [event["time"] for event in record.events if event["event"] == "begin"]
    if begun:
        times = f"started {len(begun)} times" if len(begun) > 1 else ""
        facts.append(Fact("begun", moment(begun[0]), times))
    if speed is not None:
        known = trace.timed & trace.predicted
        rate = float(voxels[known].sum()) / max(speed.worked, 1e-3)
        whole = speed.end - speed.begin
        more = f"of {format_seconds(whole)}" if whole > 1.05 * speed.worked + 1 else ""
        facts.append(Fact("time at work", format_seconds(speed.worked), more))
        facts.append(Fact("rate", format_rate(rate), "of output, while at work"))
    hours = worker_hours(record)
    if record.workers:
        lost = sum(worker.losses for worker in record.workers)
        more = f"lost {lost} times" if lost else ""
        facts.append(Fact("workers", f"{len(record.workers):,}", more))
        facts.append(Fact("worker-hours", f"{hours:.3g}"))
    if price is not None:
        each = price.text(1)
        facts.append(Fact("cost", price.text(hours), f"at {each} per worker-hour"))
    return facts


def worker_hours(record: RunRecord) -> float:
    """The hours that workers were there, all together."""
    now = time.time() if record.running else last_time(record)
    stays = [stay for worker in record.workers for stay in worker.stays]
    return sum(max(0.0, (stay.left or now) - stay.joined) for stay in stays) / 3600


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
