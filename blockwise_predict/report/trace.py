"""The trace of a run: what became of each block, when, where, and what its time went into."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.records.ledger import PREDICTED, State
from blockwise_predict.report.blockgrid import BlockGrid

Floats = NDArray[np.float64]
STAGES = ("read", "compute", "write", "wait")
COLUMNS = (
    *("block", "roi", "state", "worker", "host", "begun", "ended", "took"),
    *("read", "compute", "write", "wait", "clipped", "nonfinite"),
)


@dataclass(frozen=True)
class Trace:
    """The records of all blocks, by number.

    `ended` is in seconds since 1970, 0 where it is not recorded; `took`, `read`, `compute` and
    `write` are in seconds, from the moment a block was handed out to the report on it. `worker` is
    -1 where it is not known. `clipped` and `nonfinite` are numbers of values, [block, array].
    """

    states: NDArray[np.uint8]
    worker: NDArray[np.int32]
    ended: Floats
    took: Floats
    read: Floats
    compute: Floats
    write: Floats
    clipped: Floats
    nonfinite: Floats

    @classmethod
    def of(cls, records: NDArray[np.void]) -> Trace:
        """The trace in the records of a ledger. Earlier versions recorded no times."""
        flat = records.reshape(-1)
        floats = {
            name: flat[name].astype(np.float64)
            for name in ("ended", "took", "read", "compute", "write")
        }
        counts = {
            name: flat[name].astype(np.float64).reshape(len(flat), -1)
            for name in ("clipped", "nonfinite")
        }
        worker = np.where(flat["ended"] > 0, flat["worker"], -1)
        return cls(states=flat["state"], worker=worker, **floats, **counts)

    @cached_property
    def timed(self) -> NDArray[np.bool_]:
        """Blocks whose times are recorded."""
        return (self.ended > 0) & (self.worker >= 0)

    @cached_property
    def predicted(self) -> NDArray[np.bool_]:
        """Blocks whose values are written."""
        return np.isin(self.states, PREDICTED)

    @cached_property
    def begun(self) -> Floats:
        """When each block was handed out."""
        return self.ended - self.took

    @cached_property
    def wait(self) -> Floats:
        """Seconds of each block in which it was neither read nor computed nor written."""
        return np.maximum(0, self.took - self.read - self.compute - self.write)

    @cached_property
    def work(self) -> Floats:
        """Seconds of each block without waiting."""
        return self.read + self.compute + self.write

    def stage(self, name: str) -> Floats:
        """Seconds of each block in a stage, one of STAGES."""
        seconds: Floats = getattr(self, name)
        return seconds

    def count(self, state: State) -> int:
        """Number of blocks in a state."""
        return int((self.states == state).sum())


def trace_rows(trace: Trace, grid: BlockGrid, hosts: Sequence[str]) -> Iterator[str]:
    """The lines of a CSV file with a row for each block; `hosts` are those of the blocks, by
    number. What is not recorded is left empty."""
    yield ",".join(COLUMNS) + "\n"
    names = [state.name.lower() for state in State]
    quoted = {host: _quoted(host) for host in set(hosts)}
    axes = [[f"{a}:{b}" for a, b in itertools.pairwise(edges)] for edges in grid.positions]
    times = (trace.begun, trace.ended, trace.took, *(trace.stage(stage) for stage in STAGES))
    unknown = "," * (len(times) - 1)
    rows = zip(
        itertools.product(*axes),
        trace.states.tolist(),
        trace.worker.tolist(),
        hosts,
        trace.timed.tolist(),
        zip(*(column.tolist() for column in times), strict=True),
        trace.clipped.sum(1).tolist(),
        trace.nonfinite.sum(1).tolist(),
        strict=True,
    )
    for number, (roi, state, worker, host, timed, seconds, clipped, nonfinite) in enumerate(rows):
        who = f"{worker},{quoted[host] if host else ''}" if worker >= 0 else ","
        when = ",".join([f"{value:.3f}" for value in seconds]) if timed else unknown
        counts = f"{clipped:.0f},{nonfinite:.0f}"
        yield f'{number},"[{",".join(roi)}]",{names[state]},{who},{when},{counts}\n'


def _quoted(text: str) -> str:
    """A field of a CSV file, which no spreadsheet takes for a formula."""
    safe = "".join(c for c in text if c.isprintable())
    if safe.startswith(("=", "+", "-", "@")):
        safe = f"'{safe}"
    return '"' + safe.replace('"', '""') + '"'
