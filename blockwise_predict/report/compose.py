"""The values that fill a report's page, from a run's records."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from blockwise_predict.config.price import Price
from blockwise_predict.config.quantities import format_duration, format_rate
from blockwise_predict.config.version import __version__
from blockwise_predict.records.ledger import State
from blockwise_predict.report.charts.plots import area_plot
from blockwise_predict.report.failures import MAX_KINDS, failure_kinds, retried_kinds
from blockwise_predict.report.headline import headline, last_time, moment
from blockwise_predict.report.maps import duration_maps, duration_scale, state_maps
from blockwise_predict.report.provenance import commands, provenance_tables
from blockwise_predict.report.quality.check import Quality
from blockwise_predict.report.quality.shown import quality_values
from blockwise_predict.report.record import RunRecord
from blockwise_predict.report.throughput import Throughput, throughput
from blockwise_predict.report.times import MAX_LINES, Stages, worker_lines
from blockwise_predict.report.trace import STAGES
from blockwise_predict.report.write import GENERATOR

# Number of labels below an axis of time.
_TICKS = 5
_STATES = {
    State.DONE: "done",
    State.FILLED: "done, with the fill value for unreadable input",
    State.FAILED: "failed",
    State.SKIPPED: "left out: its input cannot be read",
    State.EMPTY: "left out: its input is empty",
    State.MASKED: "left out by the mask",
    State.OUTSIDE: "outside the ROIs",
    State.TODO: "to do",
}


@dataclass(frozen=True)
class StageRow:
    """What the time of some blocks went into, as text."""

    stages: Stages

    @property
    def blocks(self) -> int:
        return self.stages.blocks

    @property
    def bar(self) -> object:
        return self.stages.bar

    @property
    def mean(self) -> str:
        return format_duration(self.stages.took / max(1, self.stages.blocks))

    def text(self, stage: str) -> str:
        """The seconds of a stage, and its share."""
        whole = sum(self.stages.seconds.values()) or 1.0
        seconds = self.stages.seconds[stage]
        return f"{format_duration(seconds)} ({seconds / whole:.0%})"


def page_values(
    record: RunRecord,
    quality: Quality,
    *,
    price: Price | None,
    reload: int | None,
    trace_name: str,
) -> dict[str, Any]:
    """The values of a run's page; with `reload`, the page reloads itself every so many seconds."""
    speed = throughput(record.trace, record.grid.voxels)
    values = {
        "generator": GENERATOR,
        "version": __version__,
        "title": record.plan.output.path,
        "head": headline(record, price),
        "warnings": _warnings(record),
        "reload": reload,
        "written": moment(time.time()),
        "run_dir": str(record.run_dir),
        "trace_name": trace_name,
        "units": record.grid.units,
        "failures": failure_kinds(record)[:MAX_KINDS],
        "retried": retried_kinds(record)[:MAX_KINDS],
        "tables": provenance_tables(record),
        "commands": commands(record),
        **_times(record, speed),
        **_maps(record),
        **quality_values(record, quality),
    }
    return values | {"sections": _sections(values)}


def _sections(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The anchors and names of the sections that the page has."""
    sections = [("throughput", "Throughput and workers")]
    if values["stages"]:
        sections.append(("time", "Where the time went"))
    return [
        *sections,
        ("blocks", "Blocks"),
        ("failures", "Failures"),
        ("slices", "Slices"),
        ("quality", "Quality"),
        ("provenance", "Provenance"),
    ]


def _warnings(record: RunRecord) -> list[str]:
    """What the plan and the run warned of; each text once."""
    told = [event.get("text") for event in record.events if event["event"] == "warning"]
    texts = [*record.plan.warnings, *(text for text in told if isinstance(text, str))]
    return list(dict.fromkeys(texts))[:MAX_KINDS]


def _times(record: RunRecord, speed: Throughput | None) -> dict[str, Any]:
    joined = [stay.joined for worker in record.workers for stay in worker.stays]
    begin = min([*joined, *([speed.begin] if speed else [])], default=0.0)
    end = time.time() if record.running else last_time(record)
    lines = worker_lines(record, begin, end) if joined else []
    stages: list[tuple[str, StageRow]] = []
    if speed is not None:
        stages = [("all", StageRow(Stages.of(record.trace, record.trace.timed)))]
        each = [line for line in lines if line.stages.blocks]
        if len(each) > 1:
            stages += [(str(line.worker.number), StageRow(line.stages)) for line in each]
    return {
        "speed": None if speed is None else _speed(speed),
        "lines": lines,
        "ticks": _ticks(begin, end),
        "more_workers": max(0, len(record.workers) - MAX_LINES),
        "stages": stages,
        "stage_names": STAGES,
    }


def _speed(speed: Throughput) -> dict[str, Any]:
    """The plot of a run's throughput, with its labels."""
    step = (speed.end - speed.begin) / len(speed.rates)
    begins = speed.begin + step * np.arange(len(speed.rates))
    titles = [
        f"{moment(float(begin))}: {format_rate(float(rate))}"
        for begin, rate in zip(begins, speed.rates, strict=True)
    ]
    top = format_rate(float(speed.rates.max()))
    label = f"Voxels of output per second over time, at most {top}"
    return {
        "plot": area_plot(speed.rates.tolist(), label, titles),
        "top": top,
        "ticks": _ticks(speed.begin, speed.end),
        "caption": f"From {moment(speed.begin)} to {moment(speed.end)}, in steps of "
        f"{format_duration(step)}. The voxels of a block count evenly over the time that it took.",
    }


def _ticks(begin: float, end: float) -> list[str]:
    """Labels of points in time, evenly spaced."""
    whole = end - begin
    form = "%H:%M:%S" if whole < 600 else "%H:%M" if whole < 86400 else "%b %d %H:%M"
    places = (begin + whole * number / (_TICKS - 1) for number in range(_TICKS))
    return [f"{datetime.fromtimestamp(place):{form}}" for place in places]


def _maps(record: RunRecord) -> dict[str, Any]:
    maps, scale = state_maps(record), duration_scale(record.trace)
    present = [state for state in _STATES if record.trace.count(state)]
    states = [(f"s-{state.name.lower()}", _STATES[state]) for state in present]
    if State.TODO in present and len(present) > 1:
        states.append(("s-part", "some done, others to do"))
    edges = () if scale is None else (scale.edges[0], scale.edges[-1])
    return {
        "state_maps": maps,
        "states": states,
        "binned": any(map.binned for map in maps),
        "duration_maps": [] if scale is None else duration_maps(record, scale),
        "durations": [format_duration(float(edge)) for edge in edges],
    }
