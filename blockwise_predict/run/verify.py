"""Looking at an output, block by block: what is there, what is not, and whether it is right."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, product

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.errors import InputError, PredictError, RunStateError
from blockwise_predict.io import OutputArray, open_output, reason_of
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import PREDICTED, LedgerDamagedError, State, records_of
from blockwise_predict.run.recompute import Recompute
from blockwise_predict.worker.block import describe

# Blocks are read side by side.
READERS = 4
BLOCKS_AT_ONCE = 256


class Finding(StrEnum):
    """What is found of a block.

    COMPLETE: recorded as done, and all its chunks are there and decode. FILLED: so, with the fill
    value in the place of input that could not be read. SKIPPED: left out on purpose. FAILED: it
    used up its attempts. MISSING: not done yet. DAMAGED: recorded as done, but a chunk is not
    there or does not decode. DIFFERENT: computed again, it gave other values. UNCHECKED: complete,
    but it was chosen for the sample and could not be computed again.
    """

    COMPLETE = "complete"
    FILLED = "filled"
    SKIPPED = "skipped"
    FAILED = "failed"
    MISSING = "missing"
    DAMAGED = "damaged"
    DIFFERENT = "different"
    UNCHECKED = "unchecked"


GOOD = (Finding.COMPLETE, Finding.FILLED, Finding.SKIPPED)
# Findings of blocks that need not be done again.
STORED = (*GOOD, Finding.UNCHECKED)
_OF_STATE = {
    State.TODO: Finding.MISSING,
    State.DONE: Finding.COMPLETE,
    State.FAILED: Finding.FAILED,
    State.FILLED: Finding.FILLED,
    State.SKIPPED: Finding.SKIPPED,
}


@dataclass(frozen=True)
class BlockRange:
    """Neighbouring blocks with the same finding: their ROI in nm, how many, and what is wrong with
    the first."""

    finding: Finding
    roi: str
    blocks: int
    detail: str


@dataclass(frozen=True)
class Report:
    """What was found: how many blocks of each kind, and where those are that are not complete.

    `sampled` blocks were computed again; `sample_problem` is why none could be, if so.
    `ledger_problem` is what was wrong with the record of blocks, if something was; `repaired`
    blocks were marked to be done again.
    """

    counts: dict[Finding, int]
    ranges: tuple[BlockRange, ...]
    sampled: int
    sample_problem: str | None
    ledger_problem: str | None
    repaired: int | None

    @property
    def good(self) -> bool:
        """Whether nothing is wrong, or left to do."""
        bad = sum(n for finding, n in self.counts.items() if finding not in GOOD)
        records = self.ledger_problem is None or self.repaired is not None
        return not bad and records and self.sample_problem is None

    @property
    def needs_repair(self) -> bool:
        """Whether the next run would not mend by itself what is wrong."""
        bad = self.counts[Finding.DAMAGED] + self.counts[Finding.DIFFERENT]
        return bool(bad or self.ledger_problem)


@dataclass
class _Verdict:
    finding: Finding
    detail: str = ""


def verify_run(
    plan: Plan,
    run_dir: RunDir,
    *,
    sample: int,
    seed: int | None,
    repair: bool,
    progress: Callable[[int, int], None],
) -> Report:
    """Look at every block of a run's output, and compute `sample` random ones again.

    With `repair`, bad blocks are marked for the next run, and a lost ledger is rebuilt; the caller
    holds the run's lock. `progress` gets the number of blocks looked at, and of all. Raises an
    InputError if something cannot be opened at all.
    """
    output = open_output(plan.output.path)
    if output.shape != plan.output.shape:
        raise RunStateError(
            f"{plan.output.path} is {output.shape} voxels large, its run made it "
            f"{plan.output.shape}."
        )
    states, problem = _recorded_states(plan, run_dir)
    run = _RecordedRun(plan, run_dir, output, states)
    verdicts = _look(run, progress)
    sampled, sample_problem = _compute_again(run, verdicts, _chosen(verdicts, sample, seed))
    repaired = _repair(run, verdicts) if repair else None
    return Report(
        counts={f: sum(v.finding == f for v in verdicts) for f in Finding},
        ranges=tuple(_ranges(plan, verdicts)),
        sampled=sampled,
        sample_problem=sample_problem,
        ledger_problem=problem,
        repaired=repaired,
    )


@dataclass(frozen=True)
class _RecordedRun:
    """A run, its output, and the recorded states of its blocks (None if they are lost)."""

    plan: Plan
    run_dir: RunDir
    output: OutputArray
    states: NDArray[np.uint8] | None


def _recorded_states(plan: Plan, run_dir: RunDir) -> tuple[NDArray[np.uint8] | None, str | None]:
    try:
        return run_dir.block_states(plan), None
    except LedgerDamagedError as error:
        return None, str(error)


def _look(run: _RecordedRun, progress: Callable[[int, int], None]) -> list[_Verdict]:
    """The verdict on each block, by its record and by what is stored."""
    failures = run.run_dir.failures.read()
    num_blocks = run.plan.num_blocks

    def verdict(number: int) -> _Verdict:
        state = None if run.states is None else State(run.states[number])
        if state is not None and state not in PREDICTED:
            failure = failures.get(number) if state == State.FAILED else None
            return _Verdict(_OF_STATE[state], failure.error if failure else "")
        in_array = run.plan.numbered_block(number) - run.plan.output.roi.begin
        problem = stored_problem(run.output, in_array)
        if problem is None:
            return _Verdict(Finding.COMPLETE if state is None else _OF_STATE[state])
        # Without a record, a block whose chunks are not all there is one that was not done.
        missing = state is None and not run.output.is_stored(in_array.begin, in_array.end)
        return _Verdict(Finding.MISSING if missing else Finding.DAMAGED, problem)

    verdicts = []
    with ThreadPoolExecutor(READERS) as readers:
        # In batches, since blocks that wait to be looked at take memory, too.
        for begin in range(0, num_blocks, BLOCKS_AT_ONCE):
            numbers = range(begin, min(begin + BLOCKS_AT_ONCE, num_blocks))
            for found in readers.map(verdict, numbers):
                verdicts.append(found)
                progress(len(verdicts), num_blocks)
    return verdicts


def stored_problem(output: OutputArray, region: Roi) -> str | None:
    """What is wrong with the chunks of a region (voxels of the array); None if nothing is."""
    if not output.is_stored(region.begin, region.end):
        return "a chunk is not stored"
    ranges = [
        range(begin, end, chunk)
        for begin, end, chunk in zip(region.begin, region.end, output.chunk_shape, strict=True)
    ]
    for begin in product(*ranges):
        chunk = Roi(begin, output.chunk_shape).intersect(region)
        try:
            output.read(chunk.begin, chunk.end)
        except ValueError as error:
            return reason_of(error)
    return None


def _chosen(verdicts: list[_Verdict], sample: int, seed: int | None) -> list[int]:
    """Random ones of the complete blocks."""
    complete = [n for n, v in enumerate(verdicts) if v.finding == Finding.COMPLETE]
    return random.Random(seed).sample(complete, min(sample, len(complete)))


def _compute_again(
    run: _RecordedRun, verdicts: list[_Verdict], chosen: list[int]
) -> tuple[int, str | None]:
    """Compute blocks again and compare: how many, or why none can be computed."""
    if not chosen:
        return 0, None
    try:
        recompute = Recompute(run.plan, run.run_dir, choose_device(run.plan.config.device))
    except InputError as error:
        return 0, str(error)
    computed = 0
    for number in chosen:
        try:
            problem = recompute.difference(run.output, run.plan.numbered_block(number))
        except Exception as error:  # noqa: BLE001
            # Whatever keeps a block from being computed says nothing against what else was found.
            reason = str(error) if isinstance(error, PredictError) else describe(error)
            verdicts[number] = _Verdict(Finding.UNCHECKED, f"could not be computed again: {reason}")
            continue
        computed += 1
        if problem is not None:
            verdicts[number] = _Verdict(Finding.DIFFERENT, problem)
    return computed, None


def _repair(run: _RecordedRun, verdicts: list[_Verdict]) -> int:
    """Bring the ledger in line with what was found; returns the number of blocks to do again."""
    bad = [n for n, v in enumerate(verdicts) if v.finding in (Finding.DAMAGED, Finding.DIFFERENT)]
    if run.states is None:
        good = [State.DONE if v.finding in STORED else State.TODO for v in verdicts]
        run.run_dir.replace_ledger(run.plan, records_of(np.array(good, np.uint8)))
        return len(bad)
    with closing(run.run_dir.ledger(run.plan)) as ledger:
        for number in bad:
            ledger.set(number, State.TODO)
    return len(bad)


def _ranges(plan: Plan, verdicts: list[_Verdict]) -> Iterator[BlockRange]:
    """Blocks that are not simply complete; neighbours along the last axis as one range."""
    last = plan.blocks_per_axis[-1]

    def key(number: int) -> tuple[Finding, int]:
        return verdicts[number].finding, number // last

    for (finding, _), group in groupby(range(len(verdicts)), key):
        if finding == Finding.COMPLETE:
            continue
        numbers = list(group)
        first, end = plan.numbered_block(numbers[0]), plan.numbered_block(numbers[-1])
        roi = Roi(first.begin, Coordinate(end.end) - Coordinate(first.begin))
        bounds = plan.output_grid.world_bounds(roi)
        yield BlockRange(finding, bounds, len(numbers), verdicts[numbers[0]].detail)
