"""Verifying the output of a recorded run, block by block, and repairing its records."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.config.steps import step
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.errors import InputError, PredictError, RunStateError
from blockwise_predict.io import OutputArray, open_output, reason_of
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.find import find_run
from blockwise_predict.records.ledger import PREDICTED, LedgerDamagedError, State, records_of
from blockwise_predict.records.lock import hold_lock, read_holder
from blockwise_predict.run.verification.findings import (
    EXPECTED,
    STORED,
    BlockRange,
    Finding,
    Report,
)
from blockwise_predict.run.verification.levels import verify_levels
from blockwise_predict.run.verification.recompute import Recomputer, in_array
from blockwise_predict.worker.block import describe

# Number of threads that read blocks, and maximum number of blocks queued for them.
READERS = 4
BATCH_BLOCKS = 256


_FINDING_OF = {
    State.TODO: Finding.MISSING,
    State.DONE: Finding.COMPLETE,
    State.FAILED: Finding.FAILED,
    State.FILLED: Finding.FILLED,
    State.SKIPPED: Finding.SKIPPED,
    State.MASKED: Finding.MASKED,
    State.EMPTY: Finding.EMPTY,
    State.OUTSIDE: Finding.OUTSIDE,
}


@dataclass(frozen=True)
class _Verdict:
    """The finding on one block, and what is wrong with it."""

    finding: Finding
    detail: str = ""


def verify(
    output: str | Path,
    *,
    run_dir: str | None = None,
    sample: int = 0,
    seed: int | None = None,
    repair: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    trust_run_dir: bool = False,
    unsafe_load_pickle: bool = False,
    factory: str | None = None,
) -> Report:
    """Verify the output of a recorded run, as `predict verify` does; see `verify_run`.

    output: path of the array that the run wrote.
    run_dir: the run's records, if they are not beside the output's container.
    seed: of the choice of sampled blocks; a random one by default.
    repair: mark bad blocks for the next run and rebuild a lost ledger, under the run's lock.
    tell: receives messages for the user that are not part of the report.

    Raises an InputError if the records or the output cannot be opened.
    """
    records, plan = find_run(
        str(output),
        run_dir,
        trust_run_dir=trust_run_dir,
        unsafe_load_pickle=unsafe_load_pickle,
        factory=factory,
    )
    lock = records.path / "lock"
    with ExitStack() as held:
        if repair:
            with records.usable():
                held.enter_context(hold_lock(lock, tell, trusted=trust_run_dir))
        elif holder := read_holder(lock):
            tell(f"A run is recorded as going on ({holder}): what it has not done yet is missing.")
        return verify_run(plan, records, sample=sample, seed=seed, repair=repair, progress=progress)


def verify_run(
    plan: Plan,
    run_dir: RunDir,
    *,
    sample: int,
    seed: int | None,
    repair: bool,
    progress: Callable[[int, int], None],
) -> Report:
    """Read every block of a run's output, and compute `sample` random ones again.

    With `repair`, bad blocks are marked for the next run, a lost ledger is rebuilt, and downsampled
    levels that are wrong are removed; the caller must hold the run's lock. `progress` is called
    with the numbers of blocks checked and of all blocks. Raises an InputError if the output cannot
    be opened.
    """
    outputs = [open_output(array.path) for array in plan.output.arrays]
    for output in outputs:
        if output.shape != plan.output.shape:
            raise RunStateError(
                f"{output.path} has shape {output.shape}, but its run created it with shape "
                f"{plan.output.shape}."
            )
    states, problem = _recorded_states(plan, run_dir)
    run = _RecordedRun(plan, run_dir, outputs, states)
    verdicts = _check_blocks(run, progress)
    chosen = _choose_sample(verdicts, sample, seed)
    recomputed, sample_problem = _compute_again(run, chosen)
    verdicts = [recomputed.get(number, verdict) for number, verdict in enumerate(verdicts)]
    levels = verify_levels(plan, progress, repair=repair)
    repaired = _repair(run, verdicts) if repair else None
    counts = Counter(verdict.finding for verdict in verdicts)
    return Report(
        counts={finding: counts[finding] for finding in Finding},
        ranges=tuple(_ranges(plan, verdicts)),
        sampled=sum(v.finding != Finding.UNCHECKED for v in recomputed.values()),
        sample_problem=sample_problem,
        ledger_problem=problem,
        repaired=repaired,
        levels=levels,
        units=plan.output_grid.units,
    )


@dataclass(frozen=True)
class _RecordedRun:
    """A run, its output's arrays, and the recorded states of its blocks (None if they are lost)."""

    plan: Plan
    run_dir: RunDir
    outputs: Sequence[OutputArray]
    states: NDArray[np.uint8] | None

    def stored_problem(self, region: Roi) -> str | None:
        """What is wrong with the chunks of a region (voxels of the arrays); None if nothing is."""
        for output, array in zip(self.outputs, self.plan.output.arrays, strict=True):
            if (problem := stored_problem(output, region)) is not None:
                return in_array(array, problem)
        return None

    def is_stored(self, region: Roi) -> bool:
        """Whether every chunk of a region is stored in every array."""
        return all(output.is_stored(region.begin, region.end) for output in self.outputs)


def _recorded_states(plan: Plan, run_dir: RunDir) -> tuple[NDArray[np.uint8] | None, str | None]:
    try:
        return run_dir.block_states(plan), None
    except LedgerDamagedError as error:
        return None, str(error)


def _check_blocks(run: _RecordedRun, progress: Callable[[int, int], None]) -> list[_Verdict]:
    """The verdict on each block, from its record and its stored chunks."""
    failures = run.run_dir.failures.read()
    num_blocks = run.plan.num_blocks

    def verdict(number: int) -> _Verdict:
        state = None if run.states is None else State(run.states[number])
        if state is not None and state not in PREDICTED:
            failure = failures.get(number) if state == State.FAILED else None
            return _Verdict(_FINDING_OF[state], failure.error if failure else "")
        region = run.plan.numbered_block(number) - run.plan.output.roi.begin
        problem = run.stored_problem(region)
        if problem is None:
            return _Verdict(Finding.COMPLETE if state is None else _FINDING_OF[state])
        # Without a record, a block whose chunks are not all stored counts as not done.
        missing = state is None and not run.is_stored(region)
        return _Verdict(Finding.MISSING if missing else Finding.DAMAGED, problem)

    verdicts = []
    with ThreadPoolExecutor(READERS) as readers:
        # In batches, since every queued block takes memory.
        for begin in range(0, num_blocks, BATCH_BLOCKS):
            numbers = range(begin, min(begin + BATCH_BLOCKS, num_blocks))
            # Most blocks of a sparse run need no reading, and queueing each would take much longer.
            unread = run.states is not None and not np.isin(run.states[numbers], PREDICTED).any()
            for found in map(verdict, numbers) if unread else readers.map(verdict, numbers):
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


def _choose_sample(verdicts: list[_Verdict], sample: int, seed: int | None) -> list[int]:
    """Random numbers of complete blocks, at most `sample`."""
    complete = [n for n, v in enumerate(verdicts) if v.finding == Finding.COMPLETE]
    return random.Random(seed).sample(complete, min(sample, len(complete)))


def _compute_again(run: _RecordedRun, chosen: list[int]) -> tuple[dict[int, _Verdict], str | None]:
    """Compute blocks again: the verdict on each, by number, or why none can be computed."""
    if not chosen:
        return {}, None
    try:
        with step("opening the checkpoint"):
            recomputer = Recomputer(run.plan, run.run_dir, choose_device(run.plan.config.device))
    except InputError as error:
        return {}, str(error)
    found = {}
    with step("computing blocks again", len(chosen)) as to:
        for number in chosen:
            found[number] = _compare(run, recomputer, number)
            to(len(found))
    return found, None


def _compare(run: _RecordedRun, recomputer: Recomputer, number: int) -> _Verdict:
    try:
        problem = recomputer.difference(run.outputs, run.plan.numbered_block(number))
    except Exception as error:  # noqa: BLE001
        # A block that cannot be computed must not cost the user the rest of the report.
        reason = str(error) if isinstance(error, PredictError) else describe(error)
        return _Verdict(Finding.UNCHECKED, f"could not be computed again: {reason}")
    if problem is not None:
        return _Verdict(Finding.DIFFERENT, problem)
    return _Verdict(Finding.COMPLETE)


def _repair(run: _RecordedRun, verdicts: list[_Verdict]) -> int:
    """Correct the ledger; returns the number of blocks that were marked to be done again."""
    bad = [n for n, v in enumerate(verdicts) if v.finding in (Finding.DAMAGED, Finding.DIFFERENT)]
    if run.states is None:
        states = [State.DONE if v.finding in STORED else State.TODO for v in verdicts]
        records = records_of(np.array(states, np.uint8), len(run.outputs))
        run.run_dir.replace_ledger(run.plan, records)
        return len(bad)
    with closing(run.run_dir.ledger(run.plan)) as ledger:
        for number in bad:
            ledger.set(number, State.TODO)
    return len(bad)


def _ranges(plan: Plan, verdicts: list[_Verdict]) -> Iterator[BlockRange]:
    """The blocks that are not EXPECTED; adjacent ones along the last axis form one range."""
    last = plan.blocks_per_axis[-1]

    def key(number: int) -> tuple[Finding, int]:
        return verdicts[number].finding, number // last

    for (finding, _), group in groupby(range(len(verdicts)), key):
        if finding in EXPECTED:
            continue
        numbers = list(group)
        first, end = plan.numbered_block(numbers[0]), plan.numbered_block(numbers[-1])
        roi = Roi(first.begin, Coordinate(end.end) - Coordinate(first.begin))
        bounds = plan.output_grid.world_bounds(roi)
        yield BlockRange(finding, bounds, len(numbers), verdicts[numbers[0]].detail)
