"""Runs that never ran: their records, events and outputs are invented."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from blockwise_predict.config.model import RunConfig
from blockwise_predict.io import create_output, open_output
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import State
from blockwise_predict.records.ledger_file import record_dtype
from blockwise_predict.records.output_spec import output_specs
from blockwise_predict.run.planned import run_dir_of

BEGIN = 1.7e9
"""When invented runs began, in seconds since 1970."""
SECONDS = 2.0
"""What their workers take for a block."""


@dataclass(frozen=True)
class Invented:
    """A run's records, and its plan."""

    run_dir: RunDir
    plan: Plan


def invented_run(config: RunConfig, *, workers: int = 2) -> Invented:
    """A run that is complete: smooth random values, and blocks that workers did in turn."""
    plan = make_plan(config).plan
    records = run_dir_of(config)
    records.record(plan, "predict run")
    for spec in output_specs(plan, "predict run"):
        create_output(spec)
    generator = np.random.default_rng(1)
    for planned in plan.output.arrays:
        output = open_output(planned.path)
        values = generator.standard_normal((output.channels, *output.shape))
        values = gaussian_filter(values, (0, *(1.5,) * len(output.shape)))
        if planned.decision is not None:
            values = values > 0
        elif planned.value_range is not None:
            values = np.clip(128 + 60 * values / values.std(), 0, 255)
        output.write((0,) * len(output.shape), values.astype(output.dtype))
    records.replace_ledger(plan, invented_records(plan, workers))
    write_events(records, plan.num_blocks, workers)
    return Invented(records, plan)


def invented_records(plan: Plan, workers: int) -> NDArray[np.void]:
    """Records of blocks that so many workers did one after the other."""
    records = np.zeros(plan.num_blocks, record_dtype(len(plan.output.arrays)))
    numbers = np.arange(plan.num_blocks)
    records["state"] = State.DONE
    records["worker"] = numbers % workers
    records["ended"] = BEGIN + SECONDS * (numbers // workers + 1)
    records["took"], records["read"], records["compute"] = SECONDS, 0.25, 1.25
    records["write"] = 0.125
    return records.reshape(plan.blocks_per_axis)


def write_events(records: RunDir, blocks: int, workers: int) -> None:
    """Record what happened in such a run, and nothing else."""
    end = BEGIN + SECONDS * (blocks // workers + 1)
    about = {"device": "cpu, 1 thread", "job": "", "log": None}
    joins = [
        {"event": "join", "time": BEGIN, "worker": number, "name": f"node{number}, process 1"}
        | {"host": f"node{number}", **about}
        for number in range(workers)
    ]
    leaves = [
        {
            "event": "leave",
            "time": end,
            "worker": number,
            "cause": "finished",
            "why": "",
            "held": [],
        }
        for number in range(workers)
    ]
    begin = {"event": "begin", "time": BEGIN, "command": "predict run", "version": "0.1.0"}
    last = {"event": "end", "time": end, "done": blocks, "busy": {}}
    with (records.path / "events.jsonl").open("w") as file:
        file.writelines(json.dumps(one) + "\n" for one in (begin, *joins, *leaves, last))
