"""Metrics of a run for Prometheus, served over HTTP while it goes on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from blockwise_predict.config.values import metrics_address
from blockwise_predict.errors import ConfigError
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.status import WORKER_STATES, Counts, WorkerStatus
from blockwise_predict.run.reporter import Reporter

PREFIX = "blockwise_predict_"
STEPS = ("read", "compute", "write")
# Reading the records of a run of a million blocks takes a tenth of a second, so they are not read
# more often than this (seconds).
STEPS_INTERVAL_S = 10.0


class RunMetrics(Reporter, Collector):
    """Keeps what a run last reported, and makes metrics of it when they are asked for.

    `seconds` gives the seconds of each step so far, of all blocks.
    """

    def __init__(self, info: dict[str, str], seconds: Callable[[], dict[str, float]]) -> None:
        self._info = {key: _encodable(value) for key, value in info.items()}
        self._seconds = seconds
        self._steps: tuple[float, dict[str, float]] = (float("-inf"), {})
        self._counts: Counts | None = None
        self._done_before = 0
        self._workers: tuple[WorkerStatus, ...] = ()
        self._voxels_per_block = 0.0
        self._begun = self._progressed = time.time()
        self._events: Counter[str] = Counter()
        self._departures: Counter[str] = Counter()

    def begin(self, plan: Plan, counts: Counts) -> None:
        """The run begins, or resumes, with these counts."""
        self._voxels_per_block = plan.output.roi.size / plan.num_blocks
        self._done_before = counts.done
        self._counts = counts
        self._progressed = time.time()

    def progress(self, counts: Counts) -> None:
        """Keep the counts."""
        if self._counts is None or counts.final != self._counts.final:
            self._progressed = time.time()
        self._counts = counts

    def workers(self, workers: tuple[WorkerStatus, ...]) -> None:
        """Keep what the workers do."""
        self._workers = workers

    def event(self, kind: str, fields: dict[str, Any]) -> None:
        """Count an event of the run."""
        self._events[kind] += 1
        if kind == "leave":
            self._departures[str(fields.get("cause"))] += 1

    def collect(self) -> Iterator[Metric]:
        """All metrics now; as long as the run has not begun, those that do not depend on it."""
        yield InfoMetricFamily(f"{PREFIX}run", "The run.", value=self._info)
        yield _gauge("start_timestamp_seconds", "When the scheduler was started.", self._begun)
        # Zeros now would make what a run that is resumed has done look like a sudden burst.
        if self._counts is not None:
            yield from self._of_run(self._counts)

    def _of_run(self, counts: Counts) -> Iterator[Metric]:
        yield from self._of_blocks(counts)
        yield from self._of_workers()
        yield _counter("block_errors", "Attempts at a block that failed.", self._events["error"])
        yield _counter(
            "worker_joins", "Workers that joined, reconnections not counted.", self._events["join"]
        )
        departures = CounterMetricFamily(
            f"{PREFIX}worker_departures", "Workers that left, by cause.", labels=["cause"]
        )
        for cause, number in self._departures.copy().items():
            departures.add_metric([cause], number)
        yield departures
        steps = CounterMetricFamily(
            f"{PREFIX}step_seconds",
            "Seconds that workers spent on each step, summed over all blocks.",
            labels=["step"],
        )
        for step, seconds in self._step_seconds().items():
            steps.add_metric([step], seconds)
        yield steps
        yield _gauge(
            "last_progress_timestamp_seconds",
            "When a block was last finished, or the run began.",
            self._progressed,
        )

    def _of_blocks(self, counts: Counts) -> Iterator[Metric]:
        states = {
            "todo": max(0, counts.total - counts.final - counts.processing),
            "processing": counts.processing,
            **{state: getattr(counts, state) for state in ("done", "failed", "skipped", "empty")},
        }
        blocks = GaugeMetricFamily(
            f"{PREFIX}blocks", "Blocks that the options select, by state.", labels=["state"]
        )
        for state, number in states.items():
            blocks.add_metric([state], number)
        yield blocks
        yield _counter(
            "voxels",
            "Output voxels predicted since the scheduler started: blocks times their mean size.",
            (counts.done - self._done_before) * self._voxels_per_block,
        )

    def _of_workers(self) -> Iterator[Metric]:
        workers = self._workers
        states = Counter(worker.state for worker in workers)
        number = GaugeMetricFamily(
            f"{PREFIX}workers", "Workers that are present, by state.", labels=["state"]
        )
        for state in WORKER_STATES:
            number.add_metric([state], states[state])
        yield number
        labels = ["worker", "host", "device"]
        blocks = CounterMetricFamily(
            f"{PREFIX}worker_blocks", "Blocks done by each worker since it joined.", labels=labels
        )
        busy = GaugeMetricFamily(
            f"{PREFIX}worker_busy_ratio",
            "Share of the time that each worker's device computed.",
            labels=labels,
        )
        for worker in workers:
            values = [str(worker.number), _encodable(worker.host), _encodable(worker.device)]
            blocks.add_metric(values, worker.done)
            if worker.busy is not None:
                busy.add_metric(values, worker.busy)
        yield blocks
        yield busy

    def _step_seconds(self) -> dict[str, float]:
        then, steps = self._steps
        if time.monotonic() - then > STEPS_INTERVAL_S:
            steps = self._seconds()
            self._steps = (time.monotonic(), steps)
        return steps


@contextmanager
def served(metrics: RunMetrics, where: str) -> Iterator[str]:
    """Serve metrics at `PORT` of this machine or at `ADDRESS:PORT`; gives their URL.

    Raises ConfigError if that is not possible.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    host, port = metrics_address(where)
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, UnicodeError) as error:
        # What no name of a host can be is found when it is encoded as one.
        why = error.strerror if isinstance(error, OSError) else "not the name of a host"
        raise ConfigError(
            f"--metrics-port {where}: cannot listen there ({why}). Give another port, "
            "or 0 for any that is free."
        ) from None
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _encodable(text: str) -> str:
    """A text as UTF-8 can hold it: a path may have other bytes."""
    return text.encode(errors="backslashreplace").decode()


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)
