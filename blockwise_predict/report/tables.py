"""A run's status as rows of text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from blockwise_predict.config.price import Price
from blockwise_predict.config.quantities import format_rate, format_seconds
from blockwise_predict.report.status import Condition, RunStatus

Rows = list[tuple[str, str]]


def status_rows(status: RunStatus, price: Price | None) -> Rows:
    """Labels and values of a status, without its workers."""
    rows = [("output", path) for path in status.output]
    rows.append(("state", _state(status)))
    rows.append(("blocks", ", ".join(_blocks(status))))
    if status.pyramid_blocks:
        done = f"{status.pyramid_blocks_done:,} of {status.pyramid_blocks:,} blocks of levels done"
        rows.append(("pyramid", done))
    if status.voxels_per_second is not None:
        rows.append(("rate", _rate(status)))
    if status.precision is not None:
        rows.append(("precision", status.precision))
    if status.began is not None:
        rows.append(("time", _time(status)))
        rows.append(("used", _used(status, price)))
    return rows


def _state(status: RunStatus) -> str:
    match status.condition:
        case Condition.RUNNING:
            there = len(status.workers)
            wanted = "" if status.workers_wanted is None else f" of {status.workers_wanted}"
            return f"running, {there}{wanted} workers are there"
        case Condition.COMPLETE:
            return "complete"
        case Condition.FAILED:
            return f"{status.failed} blocks failed; `predict retry` tries them again"
        case Condition.STOPPED:
            if status.began is None:
                return "has not run yet"
            return "stopped before the end; the same command resumes it"


def _blocks(status: RunStatus) -> Iterator[str]:
    yield f"{status.done:,} of {status.blocks:,} done"
    for number, what in (
        (status.failed, "failed"),
        (status.skipped, "skipped"),
        (status.empty, "empty"),
        (status.in_progress, "in progress"),
    ):
        if number:
            yield f"{number:,} {what}"


def _rate(status: RunStatus) -> str:
    assert status.voxels_per_second is not None
    overall = f"{format_rate(status.voxels_per_second)} overall"
    if status.voxels_per_second_now is None:
        return overall
    return f"{format_rate(status.voxels_per_second_now)} now, {overall}"


def _time(status: RunStatus) -> str:
    assert status.began is not None
    began = datetime.fromtimestamp(status.began)
    text = f"{format_seconds(status.seconds)} since {began:%Y-%m-%d %H:%M}"
    if status.seconds_left is not None:
        text += f", about {format_seconds(status.seconds_left)} left"
    return text


def _used(status: RunStatus, price: Price | None) -> str:
    text = f"{status.worker_hours:.3g} worker-hours, {status.node_hours:.3g} node-hours"
    return text if price is None else f"{text}, {price.text(status.worker_hours)}"
